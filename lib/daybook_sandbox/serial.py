"""One request of a service at a time: moto's backends are not made for threads."""

from __future__ import annotations

import functools
import logging
import threading
from collections import defaultdict
from typing import Any

from moto.core.responses import BaseResponse
from moto.moto_server.werkzeug_app import MotoRequestHandler

log = logging.getLogger(__name__)


def patch() -> None:
    """Answer the requests of a service one after the other, and log refused ones.

    S3, whose requests can be long, is not affected: it answers by itself. A second call changes
    nothing.
    """
    if getattr(BaseResponse.call_action, "is_serial", False):
        return
    locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
    call = BaseResponse.call_action

    @functools.wraps(call)
    def call_action(self):
        with locks[self.service_name]:
            answer = call(self)
        if answer[0] >= 400:
            log.info("%s %s was refused with %s", self.service_name, self._get_action(), answer[0])
        return answer

    call_action.is_serial = True
    BaseResponse.call_action = call_action
    MotoRequestHandler.connection_dropped = _log_dropped


def _log_dropped(_self: MotoRequestHandler, error: BaseException, environ: Any = None) -> None:
    """Log a caller that left before its answer: it may repeat a change that was made."""
    log.warning("an answer was not delivered: %r to %s", error, (environ or {}).get("HTTP_HOST"))
