"""Whether a record shows that what was applied had been displayed and approved, by whoever had to.

Journals of older versions have no `displayed` and no `apply` entries: there, the plan in force when
the apply phase changed something must be the one that was approved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from daybook.gates import statement
from daybook.gates.statement import APPLYING, APPROVED, PLANNED, Party, Signed
from daybook.record.journal import Entries
from daybook.signers import Signers

Entry = Mapping[str, Any]
_DECLINED = "declined"
_PLACE = ("environment", "step", "account", "region", "target")


@dataclass
class _Seen:
    """What a journal has told so far."""

    plan: str = ""
    displayed: set[tuple[str, str]] = field(default_factory=set)
    has_displayed: bool = False
    approval: Entry | None = None
    phase: str = ""
    is_applying: bool = False
    """Whether the apply phase that is open has been judged."""


def problems(entries: Entries, signers: Callable[[], Signers]) -> Iterator[str]:
    """Give what was applied without having been displayed and approved, by digest.

    signers: returns whose signatures count; asked where a second person had to approve.
    """
    seen = _Seen()
    for entry in entries.lines:
        kind = entry["kind"]
        if kind == "phase":
            yield from _old_end(seen, entry)
            seen.phase = str(entry.get("name")) if entry.get("state") == "started" else ""
            seen.is_applying = False
        elif kind == "plan":
            seen.plan, seen.approval = _digest(entry), None
        elif kind == "displayed":
            seen.has_displayed = True
            seen.displayed.add((_digest(entry), str(entry.get("summary"))))
        elif kind == "approval":
            seen.approval = entry
        elif kind == "apply":
            seen.is_applying = True
            yield from _unapproved(seen, _digest(entry))
            yield from _undisplayed(seen, entry)
            if entry.get("needs"):
                yield from _unsigned(seen, entry, entries.header, signers())
        elif kind == "change" and seen.phase == "apply":
            yield from _unannounced(seen)


def _old_end(seen: _Seen, entry: Entry) -> Iterator[str]:
    """Judge an apply phase that ended well, in a journal that had no entry for its beginning."""
    if entry.get("state") == "ended" and entry.get("name") == "apply":
        yield from _unannounced(seen)


def _unannounced(seen: _Seen) -> Iterator[str]:
    if seen.is_applying:
        return
    seen.is_applying = True
    if seen.has_displayed:
        yield f"approval: {seen.plan or 'a plan'} was applied without an apply entry"
    yield from _unapproved(seen, seen.plan)


def _unapproved(seen: _Seen, digest: str) -> Iterator[str]:
    approval = seen.approval
    if approval is None:
        yield f"approval: {digest or 'a plan'} was applied, and nobody had approved it"
    elif str(approval.get("how", "")).startswith(_DECLINED):
        yield f"approval: {digest} was applied after it was declined"
    elif not digest or _digest(approval) != digest or digest != seen.plan:
        approved = _digest(approval) or "nothing"
        yield f"approval: {digest or 'a plan'} was applied; {approved} was approved"


def _undisplayed(seen: _Seen, entry: Entry) -> Iterator[str]:
    if (_digest(entry), str(entry.get("summary"))) not in seen.displayed:
        yield f"approval: {_digest(entry)} was applied, and had not been displayed as it was"


def _unsigned(seen: _Seen, entry: Entry, header: Entry, allowed: Signers) -> Iterator[str]:
    """Give what is wrong with the signatures of an apply that needed a second person."""
    when, about = _time(entry), _about(entry, header)
    planner, applier = (
        statement.check(Signed.of(entry.get(decision)), about, {decision}, allowed, when)
        for decision in (PLANNED, APPLYING)
    )
    for who, party in (("who planned", planner), ("who applied", applier)):
        if party.problem:
            yield f"approval: {who} is not proven: {party.problem}"
    given = (seen.approval or {}).get("by")
    signed = [Signed.of(each) for each in given] if isinstance(given, list) else []
    approvers = [statement.check(each, about, {APPROVED}, allowed, when) for each in signed]
    refused = [_refusal(approver, (planner, applier), allowed) for approver in approvers]
    if not refused or all(refused):
        yield f"approval: by no second person: {'; '.join(refused) or 'no signature'}"


def _refusal(approver: Party, operators: tuple[Party, ...], allowed: Signers) -> str:
    return approver.problem or statement.conflict(approver, operators, allowed)


def _about(entry: Entry, header: Entry) -> dict[str, str]:
    place = {name: str(header.get(name)) for name in _PLACE}
    git = header.get("git")
    commit = str(git.get("commit", "")) if isinstance(git, Mapping) else ""
    run = {"run": str(entry.get("made_by")), "made": str(entry.get("made")), "commit": commit}
    return place | run | {"digest": _digest(entry), "summary": str(entry.get("summary"))}


def _time(entry: Entry) -> datetime | None:
    """Return when an entry was written; None, which stands for now, where it does not say."""
    try:
        found = datetime.fromisoformat(str(entry.get("time")))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _digest(entry: Entry) -> str:
    return str(entry.get("digest", ""))
