"""The tables of `daybook runs`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from daybook import ui
from daybook.record import verification
from daybook.record.compare import Comparison
from daybook.record.search import Row
from daybook.record.verification import Verdict
from daybook.ui import formats

_STATES = {
    verification.INTACT: ui.good, verification.UNSIGNED: ui.warn,
    verification.BROKEN: ui.bad, verification.OPEN: ui.busy,
    verification.UNAPPROVED: ui.bad,
    "succeeded": ui.good, "failed": ui.bad, "interrupted": ui.bad, "waiting": ui.warn,
    "running": ui.busy,
}  # fmt: skip
SECTIONS = {
    "checks": ("is_ok", "name", "expected", "observed"),
    "changes": ("time", "action", "what", "host"),
    "phases": ("name", "state", "seconds"),
    "tools": ("args", "returncode", "seconds"),
}
"""Lists of a record that `runs show` prints as tables, and the fields in their columns."""


def rows(runs: Sequence[Row]) -> ui.Table:
    """Return one row per run, identified by the end of its id."""
    is_search = any(run.excerpt for run in runs)
    columns = ("", "run", "step", "environment", "started", "operator", "duration")
    cells = [
        (
            _status(run.status),
            run.run.rpartition("-")[2],
            run.step,
            run.environment + (" · REHEARSAL" if run.target == "sandbox" else ""),
            formats.timestamp(run.start)[:16],
            formats.name_of(run.operator),
            formats.duration(run.seconds),
            *([" ".join(run.excerpt.split())] if is_search else []),
        )
        for run in runs
    ]
    columns = (*columns, "match") if is_search else columns
    return ui.Table(ui.count(len(runs), "run"), columns, cells)


def facts(record: Mapping[str, Any]) -> ui.Table:
    """Return the status, target, operator, times, commit, parameters and outputs of a run."""
    operator, git = record["operator"], record["git"]
    target = "REHEARSAL" if record["target"] == "sandbox" else f"AWS {record['account']}"
    start, duration = formats.timestamp(record["start"]), formats.duration(record["seconds"])
    commit, uncommitted = git.get("commit", "")[:12], len(git.get("dirty", []))
    rows = [
        ("status", _status(record["status"])),
        ("target", f"{target}, {record['region']}, {record['caller_arn'] or 'unknown identity'}"),
        ("operator", f"{formats.person(operator)} {operator.get('key', 'without a key')}"),
        ("time", f"{start}, {duration}"),
        ("commit", f"{commit}, {uncommitted} uncommitted files"),
        *((name, formats.value(value)) for name, value in record["parameters"].items()),
        ("plan", (record["plan"] or {}).get("digest", "-")),
        *(("approved", f"{given['digest']} {given['how']}") for given in record["approvals"]),
        *((name, formats.value(value)) for name, value in record["outputs"].items()),
    ]
    return ui.Table(f"{record['step']} {record['environment']} · {record['run']}", ("", ""), rows)


def sections(record: Mapping[str, Any]) -> Iterator[ui.Table]:
    """Yield the tables of checks, changes, phases and tools that are not empty."""
    return (
        _section(name, columns, record[name]) for name, columns in SECTIONS.items() if record[name]
    )


def _section(title: str, columns: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> ui.Table:
    rows = [tuple(_cell(column, entry) for column in columns) for entry in entries]
    return ui.Table(title, ["" if name == "is_ok" else name for name in columns], rows)


def _cell(column: str, entry: Mapping[str, Any]) -> Any:
    value = entry.get(column)
    if column == "is_ok":
        return {True: ui.good("ok"), False: ui.bad("failed")}.get(value, ui.quiet("not checked"))
    if column == "seconds":
        return formats.duration(value)
    if column == "time":
        return str(value)[11:19]
    if column == "args":
        return shlex.join(value)
    if column == "observed" and entry.get("is_ok") is False and entry.get("fix"):
        return f"{value}: {entry['fix']}"
    return formats.value(value)


def _status(word: str) -> ui.Status:
    return _STATES.get(word, ui.quiet)(word)


def differences(comparison: Comparison) -> ui.Table:
    """Return the differing values of two runs and the durations of their phases."""
    rows = [
        (value.section, value.name, formats.value(value.before), formats.value(value.after))
        for value in comparison.differences
    ]
    rows += [
        ("duration", name, formats.duration(before), formats.duration(after))
        for name, before, after in comparison.seconds
    ]
    return ui.Table("Differences", ("", "", comparison.before, comparison.after), rows)


def verdicts(verdicts: Sequence[Verdict]) -> ui.Table:
    """Return the state of records, each with its signer or its problems."""
    columns = ("", "environment", "run", "signer or problems")
    rows = [
        (_status(v.state), v.environment, v.run, "\n".join(v.problems) or v.signer or "unsigned")
        for v in verdicts
    ]
    return ui.Table(ui.count(len(verdicts), "record"), columns, rows)
