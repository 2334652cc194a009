"""Verify that each plan a record shows as applied was displayed and approved before, as required.

A journal without `format` in its header is judged by the rules of its version: the oldest have no
`displayed` and `apply` entries, so the last plan before a change in the apply phase must be the
approved one.
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
"""The ways to approve a plan, as stored in records."""
_DECLINED = "declined"
_TARGET_FIELDS = ("environment", "step", "account", "region", "target")
_COMMANDS = re.compile(r"lock-break|secrets-[a-z]+")
"""The steps of commands, which have neither a plan nor phases."""
_UNPLANNED = {("plan", "removed"), ("verify", "retired"), ("apply", "deregistered")}
"""Changes, by phase and action, that need no plan: removing the lock of a killed run, retiring a
secret's version that no host uses, deregistering a runner of removed hosts."""
_FIRST_BUCKET = "create aws_s3_bucket.state"
"""In the plan of an account's first bootstrap, which cannot be published for approval yet."""


@dataclass
class _Progress:
    """The state of a run after the entries read so far.

    changes: those of the current plan. is_applying: whether the open apply phase has been judged.
    is_used: whether the approval, which is for one apply, was used.
    """

    plan: str = ""
    displayed: set[tuple[str, str]] = field(default_factory=set)
    is_displayed: bool = False
    approval: Entry | None = None
    phase: str = ""
    is_applying: bool = False
    changes: tuple[str, ...] = ()
    is_used: bool = False


def problems(
    entries: Entries, signers: Callable[[], Signers], required: Callable[[], int] = lambda: 0
) -> Iterator[str]:
    """Yield each plan that was applied without being displayed and approved, by digest.

    signers: returns the accepted keys; called if a second person had to approve. required: returns
    the number of approvals that the settings of the record's commit require.
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
    progress, is_command = _Progress(), bool(_COMMANDS.fullmatch(str(entries.header.get("step"))))
    for entry in entries.lines:
        kind = entry["kind"]
        if kind == "phase":
            progress.phase = str(entry.get("name")) if entry.get("state") == "started" else ""
            progress.is_applying = False
        elif kind == "plan":
            progress.plan, progress.changes = _digest(entry), _changes(entry)
            progress.approval, progress.is_displayed = None, False
        elif kind == "displayed":
            progress.is_displayed |= _digest(entry) == progress.plan
            progress.displayed.add((_digest(entry), str(entry.get("summary"))))
        elif kind == "approval":
            progress.approval = entry
            yield from _approval_problems(progress, entries.header)
        elif kind == "apply":
            yield from _apply_problems(progress, entry, entries.header, signers, required)
        elif kind == "change" and not is_command:
            yield from _change_problems(progress, entry)


def _approval_problems(progress: _Progress, header: Entry) -> Iterator[str]:
    """Check that an approval is of the displayed plan and was given in a valid way."""
    how, digest = str(progress.approval.get("how")), _digest(progress.approval) or "nothing"
    if how.startswith(_DECLINED):
        return
    if not progress.is_displayed:
        yield f"approval: {digest} was approved before it was displayed"
    by_hand = f"by typing {header.get('environment')}"
    plain = how.partition(" and by ")[0]
    if how == AUTOMATIC:
        if header.get("target") != "sandbox":
            yield f"approval: {digest} was approved by auto, which is valid only in the sandbox"
    elif how == NOT_NEEDED:
        if progress.changes:
            yield f"approval: {digest} has changes, so it needed an approval"
    elif plain not in (BY_DIGEST, by_hand):
        yield f"approval: {digest} was approved in an unknown way"


def _apply_problems(
    progress: _Progress,
    entry: Entry,
    header: Entry,
    signers: Callable[[], Signers],
    required: Callable[[], int],
) -> Iterator[str]:
    if progress.phase != "apply":
        yield f"approval: {_digest(entry)} was applied outside the apply phase"
    if progress.is_used:
        yield f"approval: {_digest(entry)} was applied, but its approval was already used"
    progress.is_applying = progress.is_used = True
    yield from _unapproved(progress, _digest(entry))
    yield from _undisplayed(progress, entry)
    how = str((progress.approval or {}).get("how"))
    if how in (NOT_NEEDED, AUTOMATIC):
        return
    is_first = header.get("step") == "bootstrap" and _FIRST_BUCKET in progress.changes
    if (entry.get("needs") or entry.get("needs") is None or required()) and not is_first:
        yield from _unsigned(progress, entry, header, signers())


def _change_problems(progress: _Progress, entry: Entry) -> Iterator[str]:
    """Check that a change belongs to a plan that is being applied or needs no plan."""
    if (progress.phase, entry.get("action")) in _UNPLANNED:
        return
    if progress.phase != "apply":
        phase = f"in {progress.phase}" if progress.phase else "in no phase"
        yield f"approval: a change was made outside the apply phase, {phase}"
    elif not progress.is_applying:
        progress.is_applying = True
        yield f"approval: {progress.plan or 'a plan'} was applied without an apply entry"
    elif str((progress.approval or {}).get("how")) == NOT_NEEDED:
        yield f"approval: {progress.plan} had no changes, but a change was made"


def _changes(entry: Entry) -> tuple[str, ...]:
    changes = entry.get("changes")
    return tuple(map(str, changes)) if isinstance(changes, list) else ()


def _problems_of_old(entries: Entries, signers: Callable[[], Signers]) -> Iterator[str]:
    progress = _Progress()
    for entry in entries.lines:
        kind = entry["kind"]
        if kind == "phase":
            yield from _old_phase_problems(progress, entry)
            progress.phase = str(entry.get("name")) if entry.get("state") == "started" else ""
            progress.is_applying = False
        elif kind == "plan":
            progress.plan, progress.approval = _digest(entry), None
        elif kind == "displayed":
            progress.is_displayed = True
            progress.displayed.add((_digest(entry), str(entry.get("summary"))))
        elif kind == "approval":
            progress.approval = entry
        elif kind == "apply":
            progress.is_applying = True
            yield from _unapproved(progress, _digest(entry))
            yield from _undisplayed(progress, entry)
            if entry.get("needs"):
                yield from _unsigned(progress, entry, entries.header, signers())
        elif kind == "change" and progress.phase == "apply":
            yield from _old_apply_problems(progress)


def _old_phase_problems(progress: _Progress, entry: Entry) -> Iterator[str]:
    """Check a successful apply phase of a journal without an `apply` entry."""
    if entry.get("state") == "ended" and entry.get("name") == "apply":
        yield from _old_apply_problems(progress)


def _old_apply_problems(progress: _Progress) -> Iterator[str]:
    if progress.is_applying:
        return
    progress.is_applying = True
    if progress.is_displayed:
        yield f"approval: {progress.plan or 'a plan'} was applied without an apply entry"
    yield from _unapproved(progress, progress.plan)


def _unapproved(progress: _Progress, digest: str) -> Iterator[str]:
    approval = progress.approval
    if approval is None:
        yield f"approval: {digest or 'a plan'} was applied without an approval"
    elif str(approval.get("how", "")).startswith(_DECLINED):
        yield f"approval: {digest} was applied after it was declined"
    elif not digest or _digest(approval) != digest or digest != progress.plan:
        approved = _digest(approval) or "nothing"
        yield f"approval: {digest or 'a plan'} was applied, but {approved} was approved"


def _undisplayed(progress: _Progress, entry: Entry) -> Iterator[str]:
    if (_digest(entry), str(entry.get("summary"))) not in progress.displayed:
        yield f"approval: {_digest(entry)} was applied, but had not been displayed in this form"


def _unsigned(progress: _Progress, entry: Entry, header: Entry, allowed: Signers) -> Iterator[str]:
    """Check the signatures of an apply that needed the approval of a second person."""
    when, about = _time(entry), _about(entry, header)
    planner, applier = (
        statement.check(Signed.of(entry.get(decision)), about, {decision}, allowed, when)
        for decision in (PLANNED, APPLYING)
    )
    if _is_old(header):
        planner, applier = map(_without_app, (planner, applier))
    for action, party in (("planned", planner), ("applied", applier)):
        if party.problem:
            yield f"approval: it is not proven by whom the plan was {action}: {party.problem}"
    signatures = (progress.approval or {}).get("by")
    signed = [Signed.of(value) for value in signatures] if isinstance(signatures, list) else []
    approvers = [statement.check(value, about, {APPROVED}, allowed, when) for value in signed]
    refusals = [_refusal(approver, (planner, applier), allowed) for approver in approvers]
    if not refusals or all(refusals):
        reasons = "; ".join(refusals) or "no signature"
        yield f"approval: not approved by a second person: {reasons}"


def _without_app(party: Party) -> Party:
    """Return a party as older versions treated it: without an actor if that is an app."""
    return replace(party, actor="") if statement.is_app(party.actor) else party


def _refusal(approver: Party, operators: tuple[Party, ...], allowed: Signers) -> str:
    return approver.problem or statement.conflict(approver, operators, allowed)


def _about(entry: Entry, header: Entry) -> dict[str, str]:
    target = {name: str(header.get(name)) for name in _TARGET_FIELDS}
    git = header.get("git")
    commit = str(git.get("commit", "")) if isinstance(git, Mapping) else ""
    run = {"run": str(entry.get("made_by")), "made": str(entry.get("made")), "commit": commit}
    return target | run | {"digest": _digest(entry), "summary": str(entry.get("summary"))}


def _time(entry: Entry) -> datetime | None:
    """Return the time of an entry, None (now) if it is invalid."""
    try:
        time = datetime.fromisoformat(str(entry.get("time")))
    except ValueError:
        return None
    return time if time.tzinfo else None


def _digest(entry: Entry) -> str:
    return str(entry.get("digest", ""))
