"""CloudTrail's event history: every change of EC2 through the API, found by what it changed."""

from __future__ import annotations

import functools
import json
import re
import time
import uuid
from collections import deque
from typing import Any

from moto.cloudtrail.responses import CloudTrailResponse
from moto.core.responses import BaseResponse

KEPT = 10_000
USER = "moto"
"""Whom STS calls the sandbox's one user."""
_READING = ("Describe", "Get", "List", "Search")
_ID = re.compile(r"\b[a-z]{1,10}-[0-9a-f]{8,17}\b")


def patch() -> None:
    """Keep what changes EC2, and answer LookupEvents; a second call changes nothing."""
    if hasattr(BaseResponse.call_action, "__wrapped__"):
        return
    events: deque[dict[str, Any]] = deque(maxlen=KEPT)
    call = BaseResponse.call_action

    @functools.wraps(call)
    def call_action(self):
        answer = call(self)
        name = self._get_action()
        if self.service_name == "ec2" and not name.startswith(_READING):
            events.appendleft(_event(name, str(self.data)))
        return answer

    BaseResponse.call_action = call_action
    CloudTrailResponse.lookup_events = functools.partialmethod(_lookup, events)


def _event(name: str, request: str) -> dict[str, Any]:
    return {
        "EventId": str(uuid.uuid4()),
        "EventName": name,
        "EventSource": "ec2.amazonaws.com",
        "EventTime": time.time(),
        "ReadOnly": "false",
        "Username": USER,
        "Resources": [{"ResourceName": found} for found in dict.fromkeys(_ID.findall(request))],
    }


def _lookup(self: CloudTrailResponse, events: deque[dict[str, Any]]) -> str:
    """Answer with the newest first, as CloudTrail does."""
    wanted = {
        each["AttributeValue"]
        for each in json.loads(self.body).get("LookupAttributes", ())
        if each["AttributeKey"] == "ResourceName"
    }
    found = [e for e in events if wanted & {each["ResourceName"] for each in e["Resources"]}]
    return json.dumps({"Events": found[:50]})
