"""Make atomic the writes that are atomic on AWS but not in moto.

moto's conditional write to S3 is a check followed by a write, and its change of a DNS zone
replaces the whole record list, so one of two concurrent changes was lost.
"""

from __future__ import annotations

import functools
import threading

from moto.route53.models import Route53Backend
from moto.s3.responses import S3Response

WRITES = (
    (S3Response, "put_object"),
    (S3Response, "delete_object"),
    (Route53Backend, "change_resource_record_sets"),
)


def patch() -> None:
    """Serialize the writes of WRITES; a second call changes nothing."""
    lock = threading.RLock()
    for owner, name in WRITES:
        original = getattr(owner, name)
        if not hasattr(original, "__wrapped__"):
            setattr(owner, name, _serialized(original, lock))


def _serialized(original, lock: threading.RLock):
    @functools.wraps(original)
    def write(self, *args, **kwargs):
        with lock:
            return original(self, *args, **kwargs)

    return write
