"""What a journal's entries and a record are made of: checked once, when they are read.

A shape is a class or a union of classes, a function, `[shape]` for a list of it, or a dictionary:
what is named there must be there and fit, unless it is Maybe; what is not named may be anything.
What only an operator's eyes read is no part of a shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_DEPTH = 100
"""How deep lists and dictionaries may lie in each other."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
_RUN = re.compile(r"[^/\x00]{1,255}")
_OPENINGS = re.compile(rb"[\[{]")


@dataclass(frozen=True)
class Maybe:
    """A part that may be missing."""

    shape: Any


def is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 53


def is_number(value: object) -> bool:
    """Tell whether this is a number that can be rounded and shown: not NaN, not infinite."""
    return isinstance(value, int | float) and abs(value) < 1e15


def is_seconds(value: object) -> bool:
    return value is None or is_number(value)


def is_time(value: object) -> bool:
    """Tell whether this is a time as `journal.now` writes it."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def is_time_or_empty(value: object) -> bool:
    return value == "" or is_time(value)


def is_run(value: object) -> bool:
    """Tell whether this can be the name of a run's folder."""
    return isinstance(value, str) and bool(_RUN.fullmatch(value)) and value not in (".", "..")


def is_source(value: object) -> bool:
    """Tell whether this is a cell's source, which nbformat may keep as lines."""
    return isinstance(value, str) or fits(value, [str])


def _is_check(entry: object) -> bool:
    """One entry may hold one check or all of a phase's."""
    return fits(entry, {"checks": [CHECK]} if "checks" in entry else CHECK)


def _is_note(entry: object) -> bool:
    is_redacted = entry.get("what") == "redacted"
    return fits(entry, {"what": Maybe(str), **({"files": dict} if is_redacted else {})})


def _is_output(entry: object) -> bool:
    kind = {"cell": is_count, "type": str}
    return fits(entry, kind) and fits(entry, _OUTPUTS.get(entry["type"], {}))


TEXT = str | None
CHECK = {"name": str, "expected": Maybe(str), "observed": str, "is_ok": Maybe(bool | None)}
CHANGE = {"action": Maybe(TEXT), "what": Maybe(TEXT), "address": Maybe(TEXT)}
PLAN = {"digest": str, "changes": Maybe(list | None)}
APPROVAL = {"digest": str, "how": str, "time": is_time}
OPERATOR = {name: Maybe(TEXT) for name in ("user", "name", "email", "sudo_user", "key")}
GIT = {"commit": Maybe(str), "branch": Maybe(str), "dirty": Maybe([str])}
LINK = {"run": is_run, "sha256": str}
_ERROR = {"ename": Maybe(str), "evalue": Maybe(str)}
_DISPLAY = {"data": dict, "metadata": Maybe(dict), "display_id": Maybe(str)}
_OUTPUTS = {
    "stream": {"name": str, "text": str},
    **dict.fromkeys(("display_data", "execute_result", "update_display_data"), _DISPLAY),
    "error": {**_ERROR, "traceback": Maybe([str])},
    "attachment": {"file": str, "bytes": Maybe(is_count), "lost_bytes": Maybe(is_count)},
}
_CELL_KEY = {"place": is_count, "id": str, "sha256": str}
_HEADER = {
    **{name: Maybe(str) for name in ("step", "environment", "target", "account", "region")},
    "run": Maybe(str),
    "caller_arn": Maybe(TEXT),
    "ci": Maybe(TEXT),
    "operator": Maybe(OPERATOR),
    "host": Maybe({"name": Maybe(str)}),
    "git": Maybe(GIT),
    "parameters": Maybe(dict),
    "versions": Maybe(dict),
    "settings": Maybe({"sha256": Maybe(str)}),
    "kernel": Maybe({"pid": is_count, "started": is_number, "host": Maybe(str)}),
    "template": Maybe({"path": Maybe(TEXT), "sha256": Maybe(TEXT), "cells": Maybe([_CELL_KEY])}),
}
_CELL_END = {"cell": is_count, "status": str, "seconds": Maybe(is_seconds), "traceback": Maybe(str)}
_TOOL_END = {"number": is_count, "returncode": Maybe(int | None), "seconds": Maybe(is_seconds)}
_ENTRY = {"seq": is_count, "time": is_time, "kind": str}
_KINDS = {
    "header": _HEADER,
    "phase": {"name": str, "state": str},
    "check": _is_check,
    "plan": PLAN,
    "approval": {"digest": str, "how": str},
    "change": CHANGE,
    "outputs": {"values": Maybe(dict)},
    "versions": {"values": Maybe(dict)},
    "cell_start": {"cell": is_count, "source": str, "sha256": str, "cell_id": Maybe(str)},
    "cell_end": {**_CELL_END, **_ERROR},
    "output": _is_output,
    "tool_start": {"number": is_count, "args": Maybe([str]), "log": Maybe(TEXT)},
    "tool_end": _TOOL_END,
    "status": {"status": str},
    "note": _is_note,
    "end": {"status": str, "reason": Maybe(str)},
}
RECORD = {
    **dict.fromkeys(("step", "environment", "target", "account", "region", "status"), str),
    "run": str,
    "caller_arn": TEXT,
    "operator": OPERATOR,
    "git": GIT,
    "parameters": dict,
    "versions": dict,
    "template": {"path": TEXT, "sha256": TEXT},
    "plan": lambda value: value is None or fits(value, PLAN),
    "approvals": [APPROVAL],
    "checks": [CHECK],
    "changes": [CHANGE],
    "outputs": dict,
    "phases": [{"name": str, "state": str, "seconds": is_seconds}],
    "tools": [{"args": [str], "log": TEXT, "returncode": int | None, "seconds": is_seconds}],
    "error": lambda value: value is None or fits(value, {"ename": str, "evalue": str}),
    "start": is_time_or_empty,
    "end": is_time_or_empty,
    "seconds": is_number,
    "files": dict,
    "previous": lambda value: value is None or fits(value, LINK),
}
HEAD = {**LINK, "previous": Maybe(RECORD["previous"])}
_CELL = {"cell_type": str, "source": Maybe(is_source), "id": Maybe(str)}
NOTEBOOK = {
    "cells": [{**_CELL, "metadata": Maybe({"tags": Maybe([str])})}],
    "metadata": Maybe(dict),
}


def fits(value: object, shape: Any) -> bool:
    """Tell whether a value out of JSON has a shape."""
    if isinstance(shape, dict):
        return isinstance(value, Mapping) and all(
            fits(value[name], part.shape if isinstance(part, Maybe) else part)
            if name in value
            else isinstance(part, Maybe)
            for name, part in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(item, shape[0]) for item in value)
    if isinstance(shape, type) or not callable(shape):
        return isinstance(value, shape)
    return shape(value)


def is_entry(value: object) -> bool:
    """Tell whether this is an entry of a journal; a kind that is not known may have any content."""
    return fits(value, _ENTRY) and fits(value, _KINDS.get(value["kind"], {}))


def decode(content: bytes) -> Any:
    """Return what JSON says; ValueError for anything else, and for what is nested too deep."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if len(_OPENINGS.findall(content)) > MAX_DEPTH and _is_deep(value, MAX_DEPTH):
        raise ValueError("nested too deep")
    return value


def _is_deep(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deep(part, depth - 1) for part in parts)
