"""Writes that moto makes in several moves and AWS in one: nothing comes between them.

A conditional write to S3 is a look and a write; a change of a DNS zone is a copy of all its
records without one of them, so that of two at once one was lost.
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
    """Let nothing come between the moves of a write; a second call changes nothing."""
    turn = threading.RLock()
    for owner, name in WRITES:
        original = getattr(owner, name)
        if not hasattr(original, "__wrapped__"):
            setattr(owner, name, _alone(original, turn))


def _alone(original, turn: threading.RLock):
    @functools.wraps(original)
    def write(self, *args, **kwargs):
        with turn:
            return original(self, *args, **kwargs)

    return write
