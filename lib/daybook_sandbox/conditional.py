"""Conditional writes to S3: moto checks the condition and writes in two moves, S3 in one."""

from __future__ import annotations

import functools
import threading

from moto.s3.responses import S3Response

WRITES = ("put_object", "delete_object")


def patch() -> None:
    """Let nothing come between a condition and its write; a second call changes nothing."""
    turn = threading.RLock()
    for name in WRITES:
        original = getattr(S3Response, name)
        if not hasattr(original, "__wrapped__"):
            setattr(S3Response, name, _alone(original, turn))


def _alone(original, turn: threading.RLock):
    @functools.wraps(original)
    def write(self, *args, **kwargs):
        with turn:
            return original(self, *args, **kwargs)

    return write
