"""Compare two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybook.record import seal

_SECTIONS = ("parameters", "versions", "outputs", "git")
_PLAIN = ("status", "step", "environment", "target", "account", "operator", "reason")


@dataclass(frozen=True)
class ChangedValue:
    """A value that differs; None if a run does not have it."""

    section: str
    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Comparison:
    """The differences of two runs. seconds: the durations of each phase, (name, before, after).

    template: whether the notebook has changed, in words.
    """

    before: str
    after: str
    differences: tuple[ChangedValue, ...]
    seconds: tuple[tuple[str, float | None, float | None], ...]
    template: str


def compare(root: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Return the differences between two records, and whether the template has changed."""
    return Comparison(
        before["run"],
        after["run"],
        tuple(_differences(before, after)),
        tuple(_durations(before, after)),
        _template(root, before, after),
    )


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[ChangedValue]:
    for name in _PLAIN:
        yield from _differing("run", {name: before.get(name)}, {name: after.get(name)})
    for section in _SECTIONS:
        yield from _differing(section, before.get(section) or {}, after.get(section) or {})
    yield from _differing("checks", _checks(before), _checks(after))
    yield from _differing("plan", _plan(before), _plan(after))
    yield from _differing("changes", _changes(before), _changes(after))


def _differing(
    section: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[ChangedValue]:
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield ChangedValue(section, name, before.get(name), after.get(name))


def _checks(record: Mapping[str, Any]) -> dict[str, str]:
    marks = {True: "ok", False: "failed", None: "not checked"}
    return {c["name"]: f"{marks[c.get('is_ok')]}: {c['observed']}" for c in record["checks"]}


def _plan(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan as {address: action}, from lines such as `create aws_eip.host`."""
    plan = record.get("plan") or {}
    planned = (str(change).partition(" ") for change in plan.get("changes") or ())
    return {"digest": plan.get("digest"), **{address: action for action, _, address in planned}}


def _changes(record: Mapping[str, Any]) -> dict[str, Any]:
    return {str(c.get("what") or c.get("address")): c.get("action") for c in record["changes"]}


def _durations(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, float | None, float | None]]:
    first, second = ({p["name"]: p.get("seconds") for p in r["phases"]} for r in (before, after))
    for name in dict.fromkeys((*first, *second)):
        yield name, first.get(name), second.get(name)
    yield "all", before["seconds"], after["seconds"]


def _template(root: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return in words whether both runs used the same notebook, and whether it changed since."""
    first, second = before["template"], after["template"]
    if first["path"] != second["path"]:
        return f"different notebooks: {first['path']} and {second['path']}"
    path = root / (second["path"] or "")
    now = seal.digest(path) if path.is_file() else None
    between = "the same" if first["sha256"] == second["sha256"] else "changed between the runs"
    since = "the same" if second["sha256"] == now else "changed since" if now else "removed since"
    return f"{between}, {since}" if between != since else "the same in both runs and now"
