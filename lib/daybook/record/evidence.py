"""Whether a record shows that what was applied had been displayed and approved, by whoever had to.

A journal says in its header how it was written. Those before FORMAT 2 are held to what their
version wrote: the oldest have no `displayed` and no `apply` entries, and there the plan in force
when the apply phase changed something must be the one that was approved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from daybook.record import statement
from daybook.record.journal import Entries
from daybook.record.statement import APPLYING, APPROVED, PLANNED, Party, Signed
from daybook.signers import Signers

Entry = Mapping[str, Any]
NOT_NEEDED = "not needed"
AUTOMATIC = "by auto, in the sandbox"
BY_DIGEST = "by its digest"
"""How a plan was approved, as records say it."""
_DECLINED = "declined"
_PLACE = ("environment", "step", "account", "region", "target")
_COMMANDS = re.compile(r"lock-break|secrets-[a-z]+")
"""Runs of a command, which has neither a plan nor phases."""
_BESIDES = {("plan", "removed"), ("verify", "retired"), ("apply", "deregistered")}
"""What a step changes without a plan of it: a lock that a killed run left, a secret's version that
no host has any more, a runner of hosts that are gone."""
_FIRST_BUCKET = "create aws_s3_bucket.state"
"""In the plan of an account's first bootstrap: before it nobody else can see a plan."""


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
    changes: tuple[str, ...] = ()
    """What the plan would change."""
    is_used: bool = False
    """Whether the approval was used: it is for one apply."""


def problems(
    entries: Entries, signers: Callable[[], Signers], required: Callable[[], int] = lambda: 0
) -> Iterator[str]:
    """Give what was applied without having been displayed and approved, by digest.

    signers: returns whose signatures count; asked where a second person had to approve. required:
    returns how many had to by the settings of the record's commit, whatever the record says.
    """
    if _is_old(entries.header):
        yield from _problems_of_old(entries, signers)
    else:
        yield from _problems(entries, signers, required)


def _is_old(header: Entry) -> bool:
    return "format" not in header


def _problems(
    entries: Entries, signers: Callable[[], Signers], required: Callable[[], int]
) -> Iterator[str]:
    seen, is_command = _Seen(), bool(_COMMANDS.fullmatch(str(entries.header.get("step"))))
    for entry in entries.lines:
        kind = entry["kind"]
        if kind == "phase":
            seen.phase = str(entry.get("name")) if entry.get("state") == "started" else ""
            seen.is_applying = False
        elif kind == "plan":
            seen.plan, seen.changes = _digest(entry), _changes(entry)
            seen.approval, seen.has_displayed = None, False
        elif kind == "displayed":
            seen.has_displayed |= _digest(entry) == seen.plan
            seen.displayed.add((_digest(entry), str(entry.get("summary"))))
        elif kind == "approval":
            seen.approval = entry
            yield from _badly_approved(seen, entries.header)
        elif kind == "apply":
            yield from _applied(seen, entry, entries.header, signers, required)
        elif kind == "change" and not is_command:
            yield from _changed(seen, entry)


def _badly_approved(seen: _Seen, header: Entry) -> Iterator[str]:
    """Judge an approval by itself: of what was displayed, and in a way that there is."""
    how, digest = str(seen.approval.get("how")), _digest(seen.approval) or "nothing"
    if how.startswith(_DECLINED):
        return
    if not seen.has_displayed:
        yield f"approval: {digest} was approved before it was displayed"
    by_hand = f"by typing {header.get('environment')}"
    plain = how.partition(" and by ")[0]
    if how == AUTOMATIC:
        if header.get("target") != "sandbox":
            yield f"approval: {digest} was approved by auto, which is for the sandbox alone"
    elif how == NOT_NEEDED:
        if seen.changes:
            yield f"approval: {digest} needed one: it has changes"
    elif plain not in (BY_DIGEST, by_hand):
        yield f"approval: {digest} was approved in no way that there is"


def _applied(
    seen: _Seen,
    entry: Entry,
    header: Entry,
    signers: Callable[[], Signers],
    required: Callable[[], int],
) -> Iterator[str]:
    if seen.phase != "apply":
        yield f"approval: {_digest(entry)} was applied outside of its phase"
    if seen.is_used:
        yield f"approval: {_digest(entry)} was applied after its approval had been used"
    seen.is_applying = seen.is_used = True
    yield from _unapproved(seen, _digest(entry))
    yield from _undisplayed(seen, entry)
    how = str((seen.approval or {}).get("how"))
    if how in (NOT_NEEDED, AUTOMATIC):
        return
    is_first = header.get("step") == "bootstrap" and _FIRST_BUCKET in seen.changes
    if (entry.get("needs") or entry.get("needs") is None or required()) and not is_first:
        yield from _unsigned(seen, entry, header, signers())


def _changed(seen: _Seen, entry: Entry) -> Iterator[str]:
    """Judge one change: of a plan that is being applied, or one of the few besides."""
    if (seen.phase, entry.get("action")) in _BESIDES:
        return
    if seen.phase != "apply":
        yield f"approval: something was changed outside of apply, in {seen.phase or 'no phase'}"
    elif not seen.is_applying:
        seen.is_applying = True
        yield f"approval: {seen.plan or 'a plan'} was applied without an apply entry"
    elif str((seen.approval or {}).get("how")) == NOT_NEEDED:
        yield f"approval: {seen.plan} had no changes, and something was changed"


def _changes(entry: Entry) -> tuple[str, ...]:
    found = entry.get("changes")
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _problems_of_old(entries: Entries, signers: Callable[[], Signers]) -> Iterator[str]:
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
    if _is_old(header):
        planner, applier = map(_as_before, (planner, applier))
    for who, party in (("who planned", planner), ("who applied", applier)):
        if party.problem:
            yield f"approval: {who} is not proven: {party.problem}"
    given = (seen.approval or {}).get("by")
    signed = [Signed.of(each) for each in given] if isinstance(given, list) else []
    approvers = [statement.check(each, about, {APPROVED}, allowed, when) for each in signed]
    refused = [_refusal(approver, (planner, applier), allowed) for approver in approvers]
    if not refused or all(refused):
        yield f"approval: by no second person: {'; '.join(refused) or 'no signature'}"


def _as_before(party: Party) -> Party:
    """Return a party as older versions took it: a workflow that an app started had no actor."""
    return replace(party, actor="") if statement.is_nobody(party.actor) else party


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
