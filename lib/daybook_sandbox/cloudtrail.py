"""CloudTrail's event history: EC2 changes made through the API, searchable by resource."""

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
"""The name of the sandbox's only user in STS."""
_READING = ("Describe", "Get", "List", "Search")
_ID = re.compile(r"\b[a-z]{1,10}-[0-9a-f]{8,17}\b")


def patch() -> None:
    """Record calls that change EC2 and implement LookupEvents; a second call changes nothing."""
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
        "Resources": [{"ResourceName": id} for id in dict.fromkeys(_ID.findall(request))],
    }


def _lookup(self: CloudTrailResponse, events: deque[dict[str, Any]]) -> str:
    """Return the matching events, newest first like CloudTrail."""
    wanted = {
        attribute["AttributeValue"]
        for attribute in json.loads(self.body).get("LookupAttributes", ())
        if attribute["AttributeKey"] == "ResourceName"
    }
    matches = [
        event
        for event in events.copy()
        if wanted & {resource["ResourceName"] for resource in event["Resources"]}
    ]
    return json.dumps({"Events": matches[:50]})
