"""The tables of `daybook runs`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from daybook import ui
from daybook.record import render, verification
from daybook.record.compare import Comparison
from daybook.record.search import Row
from daybook.record.verification import Verdict

_STATES = {
    verification.INTACT: ui.good, verification.UNSIGNED: ui.warn,
    verification.BROKEN: ui.bad, verification.OPEN: ui.busy,
    verification.UNAPPROVED: ui.bad,
    "succeeded": ui.good, "failed": ui.bad, "interrupted": ui.bad, "waiting": ui.warn,
    "running": ui.busy,
}  # fmt: skip
_SECTIONS = {
    "checks": ("is_ok", "name", "expected", "observed"),
    "changes": ("time", "action", "what", "host"),
    "phases": ("name", "state", "seconds"),
    "tools": ("args", "returncode", "seconds"),
}


def rows(found: Sequence[Row]) -> ui.Table:
    """Return runs, one a line; a run is known by the end of its id."""
    is_search = any(row.found for row in found)
    columns = ("", "run", "step", "environment", "started", "operator", "took")
    cells = [
        (
            _status(row.status),
            row.run.rpartition("-")[2],
            row.step,
            row.environment + (" · REHEARSAL" if row.target == "sandbox" else ""),
            render.moment(row.start)[:16],
            row.operator.split(" <")[0],
            render.duration(row.seconds),
            *([" ".join(row.found.split())] if is_search else []),
        )
        for row in found
    ]
    columns = (*columns, "found") if is_search else columns
    return ui.Table(f"{len(found)} runs", columns, cells)


def facts(said: Mapping[str, Any]) -> ui.Table:
    """Return who, where, from what and with which outcome."""
    who, git = said["operator"], said["git"]
    where = "REHEARSAL" if said["target"] == "sandbox" else f"AWS {said['account']}"
    rows = [
        ("status", _status(said["status"])),
        ("where", f"{where}, {said['region']}, {said['caller_arn'] or 'identity not asked'}"),
        ("who", f"{who.get('name') or who.get('user')} {who.get('key', 'without a key')}"),
        ("when", f"{render.moment(said['start'])}, {render.duration(said['seconds'])}"),
        (
            "commit",
            f"{git.get('commit', '')[:12]}, {len(git.get('dirty', []))} files not committed",
        ),
        *((name, render.words(value)) for name, value in said["parameters"].items()),
        ("plan", (said["plan"] or {}).get("digest", "-")),
        *(("approved", f"{given['digest']} {given['how']}") for given in said["approvals"]),
        *((name, render.words(value)) for name, value in said["outputs"].items()),
    ]
    return ui.Table(f"{said['step']} {said['environment']} · {said['run']}", ("", ""), rows)


def sections(said: Mapping[str, Any]) -> Iterator[ui.Table]:
    """Give the tables of what a run asked, changed and started; empty ones are left out."""
    return (
        _section(name, columns, said[name]) for name, columns in _SECTIONS.items() if said[name]
    )


def _section(title: str, columns: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> ui.Table:
    rows = [tuple(_cell(column, entry) for column in columns) for entry in entries]
    return ui.Table(title, ["" if name == "is_ok" else name for name in columns], rows)


def _cell(column: str, entry: Mapping[str, Any]) -> Any:
    value = entry.get(column)
    if column == "is_ok":
        return {True: ui.good("ok"), False: ui.bad("failed")}.get(value, ui.quiet("not asked"))
    if column == "seconds":
        return render.duration(value)
    if column == "time":
        return str(value)[11:19]
    if column == "args":
        return shlex.join(value)
    if column == "observed" and entry.get("is_ok") is False and entry.get("fix"):
        return f"{value}: {entry['fix']}"
    return render.words(value)


def _status(word: str) -> ui.Status:
    return _STATES.get(word, ui.quiet)(word)


def differences(both: Comparison) -> ui.Table:
    """Return two runs side by side, how long their phases took included."""
    rows = [
        (d.section, d.name, render.words(d.before), render.words(d.after)) for d in both.differences
    ]
    rows += [
        ("duration", name, render.duration(first), render.duration(second))
        for name, first, second in both.seconds
    ]
    return ui.Table("What differs", ("", "", both.before, both.after), rows)


def verdicts(found: Sequence[Verdict]) -> ui.Table:
    """Return what became of records: by whom, or what is wrong."""
    columns = ("", "environment", "run", "signed by, or what is wrong")
    rows = [
        (_status(v.state), v.environment, v.run, "\n".join(v.problems) or v.signer or "nobody")
        for v in found
    ]
    return ui.Table(f"{len(found)} records", columns, rows)
