"""Format values for people: durations, ages, times, persons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def duration(seconds: float | None) -> str:
    """Return `0.4 s`, `12 s`, `3 min 05 s` or `2 h 10 min`; a dash if it is unknown."""
    if seconds is None:
        return "-"
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02} min"


def age(since: datetime) -> str:
    """Return the time since then, roughly: `12 s`, `5 min`, `3 h` or `40 days`."""
    seconds = max(0.0, (datetime.now(UTC) - since).total_seconds())
    for unit, size, limit in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < size * limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def count(number: int, noun: str) -> str:
    """Return `1 run` or `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def timestamp(time: str) -> str:
    """Return an ISO time in UTC as `2026-11-23 18:45:00 UTC`; a dash for ""."""
    return f"{time[:19].replace('T', ' ')} UTC" if time else "-"


def person(operator: Mapping[str, Any]) -> str:
    """Return `Ann Lee <ann@example.com>`, or the user name if the name is unknown.

    operator: as in a record, with name, email and user.
    """
    email = operator.get("email")
    parts = (operator.get("name") or operator.get("user"), email and f"<{email}>")
    return " ".join(filter(None, parts))


def name_of(person: str) -> str:
    """Return the name in `Ann Lee <ann@example.com>`."""
    return person.partition(" <")[0]


def value(value: Any) -> str:
    """Return a value of a record as text; a dash if it is empty."""
    if value in (None, "", [], {}):
        return "-"
    if isinstance(value, str | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
