"""Summarize a journal as the content of record.json; model.Summary defines the fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from daybook.record import model
from daybook.record.journal import Entries


def summarise(entries: Entries) -> dict[str, Any]:
    """Return the record without its files, link and signature; the result is deterministic."""
    header = entries.header
    lines = entries.lines
    return {
        "schema": model.SCHEMA,
        **_origin(header),
        "template": {name: header.get("template", {}).get(name) for name in ("path", "sha256")},
        "versions": _merged(entries, "versions", header.get("versions", {})),
        "plan": _plan(entries),
        "approvals": [_payload(line) for line in entries.of("approval")],
        "checks": [check for line in entries.of("check") for check in _checks(line)],
        "changes": [_payload(line) for line in entries.of("change")],
        "outputs": _merged(entries, "outputs", {}),
        "phases": _phases(entries),
        "cells": _cells(entries),
        "tools": _tools(entries),
        "error": error(entries),
        "start": lines[0]["time"] if lines else "",
        "end": lines[-1]["time"] if lines else "",
        "seconds": _seconds(lines[0]["time"], lines[-1]["time"]) if lines else 0.0,
        "status": status(entries),
        "reason": (entries.end or {}).get("reason", ""),
        "redacted": _redacted(entries),
    }


def _origin(header: Mapping[str, Any]) -> dict[str, Any]:
    fields = model.Origin.model_fields.items()
    return {
        name: header.get(name, field.get_default(call_default_factory=True))
        for name, field in fields
    }


def status(entries: Entries) -> str:
    """Return the final status of a run; `running` for a journal without an end."""
    return (entries.end or {}).get("status", "running")


def abandoned_status(entries: Entries) -> str:
    """Return the status of a run whose kernel exited without closing it.

    If the last cell failed, the status is that of its error; otherwise the run was interrupted.
    """
    if entries.end:
        return status(entries)
    last = "interrupted"
    for line in entries.of("status", "cell_start"):
        last = line["status"] if line["kind"] == "status" else "interrupted"
    return last


def error(entries: Entries) -> dict[str, Any] | None:
    """Return the error of the last executed cell, None if it succeeded."""
    ended = [line for line in entries.of("cell_end") if not line.get("recovered")]
    if not ended or ended[-1]["status"] == "ok":
        return None
    return {name: ended[-1].get(name, "") for name in ("cell", "ename", "evalue")}


def _payload(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("seq", "kind", "prev")}


def _checks(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the checks of an entry, which holds one check or all checks of a phase."""
    return line["checks"] if "checks" in line else [_payload(line)]


def _merged(entries: Entries, kind: str, start: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(start)
    for line in entries.of(kind):
        data = _payload(line)
        data.pop("time")
        merged |= data.get("values", data)
    return merged


def _plan(entries: Entries) -> dict[str, Any] | None:
    plans = list(entries.of("plan"))
    return _payload(plans[-1]) if plans else None


def _phases(entries: Entries) -> list[dict[str, Any]]:
    phases: list[dict[str, Any]] = []
    for line in entries.of("phase"):
        if line["state"] == "started":
            offset = _seconds(entries.lines[0]["time"], line["time"])
            phase = {"name": line["name"], "state": "cut", "start": line["time"]}
            phases.append(phase | {"offset": offset, "seconds": None})
        elif phases:
            seconds = _seconds(phases[-1]["start"], line["time"])
            phases[-1] |= {"state": line["state"], "seconds": seconds}
    return phases


def _cells(entries: Entries) -> list[dict[str, Any]]:
    ends = {line["cell"]: line for line in entries.of("cell_end")}
    return [
        {
            "cell": start["cell"],
            "sha256": start["sha256"],
            "start": start["time"],
            "status": ends.get(start["cell"], {}).get("status", "cut"),
            "seconds": ends.get(start["cell"], {}).get("seconds"),
        }
        for start in entries.of("cell_start")
    ]


def _tools(entries: Entries) -> list[dict[str, Any]]:
    ends = {line["number"]: line for line in entries.of("tool_end")}
    return [
        {
            "args": start.get("args", []),
            "log": start.get("log"),
            "returncode": ends.get(start["number"], {}).get("returncode"),
            "seconds": ends.get(start["number"], {}).get("seconds"),
        }
        for start in entries.of("tool_start")
    ]


def _redacted(entries: Entries) -> dict[str, int]:
    """Return the number of secrets that the last scan redacted, by file."""
    notes = [line for line in entries.of("note") if line.get("what") == "redacted"]
    return notes[-1]["files"] if notes else {}


def _seconds(start: str, end: str) -> float:
    elapsed = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return round(elapsed.total_seconds(), 3)
