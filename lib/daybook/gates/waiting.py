"""Plans that wait for approval: kept beside the runs, taken up again, forgotten when over.

`runs/<env>/.plans/` has for each a `<run>.json`, what the plan rests on, and for Terraform a
`<run>.tfplan`, which holds secrets: it is no part of the record (docs/adr/0004-waiting-plans.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from daybook.errors import ApprovalRefused
from daybook.record import journal, provenance, record, summary

FOLDER = ".plans"
NEW_PLAN = "make a new plan: daybook run {step} -p env {environment}"


@dataclass(frozen=True)
class Waiting:
    """A plan that was shown and is neither applied nor refused yet.

    basis: what must be the same when it is applied: {"commit": "3fa9…", "state": "serial 7 …"}.
    operator: who made it, {"name": …, "email": …, "user": …, "key": "SHA256:…"}.
    summary: the plan as it was shown, as text.
    is_left: whether other machines can see it, and so may have taken it.
    """

    run: str
    digest: str
    made: str
    basis: Mapping[str, str]
    operator: Mapping[str, str]
    summary: str
    is_left: bool = False

    @property
    def environment(self) -> str:
        """Return the environment that it changes."""
        return self.basis["environment"]

    def is_expired(self, hours: int, now: datetime | None = None) -> bool:
        """Tell whether it has waited for longer than this."""
        age = (now or datetime.now(UTC)) - datetime.fromisoformat(self.made)
        return age > timedelta(hours=hours)

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Waiting:
        """Return what `encode` wrote."""
        return cls(**json.loads(raw))


def plan_file(root: Path, environment: str, run: str) -> Path:
    """Return where the saved plan that a run holds is, until it is applied or refused."""
    return _folder(root, environment) / f"{run}.tfplan"


def keep(root: Path, plan: Waiting, hours: int) -> Waiting:
    """Keep a plan until it is applied or refused; only its owner may read it.

    Returns it under the name of the first run that made it, where that one still waits: what
    others said of it since counts.
    """
    ticket = _ticket(root, plan.environment, plan.run)
    for path, older in _all(root):
        own = {"run": older.run, "made": older.made, "is_left": older.is_left}
        is_same = replace(plan, **own) == older
        if is_same and not older.is_expired(hours) and _is_closed(path):
            plan = older
            discard(root, plan.environment, path.stem)
    _write(ticket, plan)
    return plan


def note_left(root: Path, plan: Waiting, by: str) -> Waiting:
    """Note on the run's ticket that other machines can see the plan; return the plan with it."""
    noted = replace(plan, is_left=True)
    _write(_ticket(root, plan.environment, by), noted)
    return noted


def left_by(root: Path, run: str) -> str:
    """Return the digest of the plan that a run left waiting, "" when it left none."""
    found = (plan.digest for path, plan in _all(root) if run in (plan.run, path.stem))
    return next(found, "")


def take_up(
    root: Path,
    approved: str,
    basis: Mapping[str, str],
    hours: int,
    by: str,
    elsewhere: Callable[[], Waiting | None] = lambda: None,
) -> Waiting:
    """Give the plan that waits under a digest to the run `by`.

    basis: how things are now. hours: how old it may be. elsewhere: returns what another machine
    has left to wait under the digest; it is asked when nothing waits here.
    ApprovalRefused says what waits instead, or what differs; a plan that is outdated is deleted.
    """
    waiting = {path: plan for path, plan in _all(root) if plan.digest == approved}
    if not waiting:
        if not (found := elsewhere()):
            raise _nothing_waits(root, approved, basis)
        require_current(found, basis, hours)
        _write(_ticket(root, found.environment, by), found)
        return found
    path = max(waiting, key=lambda path: waiting[path].made)
    plan = waiting[path]
    try:
        require_current(plan, basis, hours)
    except ApprovalRefused:
        if _is_for(plan, basis):
            discard(root, plan.environment, path.stem)
        raise
    try:
        path.rename(_ticket(root, plan.environment, by))
    except FileNotFoundError as err:
        raise _nothing_waits(root, approved, basis) from err
    saved = path.with_suffix(".tfplan")
    if saved.exists():
        saved.rename(plan_file(root, plan.environment, by))
    return plan


def require_current(plan: Waiting, basis: Mapping[str, str], hours: int) -> None:
    """Raise ApprovalRefused with all that is not as it was when the plan was made."""
    details = differences(plan.basis, basis)
    if plan.is_expired(hours):
        details.append(f"age: made at {plan.made}, and a plan may wait {hours} hours")
    if details:
        raise ApprovalRefused(
            f"{plan.digest} cannot be applied any more.",
            details=details,
            next=NEW_PLAN.format(**basis),
        )


def _nothing_waits(root: Path, approved: str, basis: Mapping[str, str]) -> ApprovalRefused:
    here = [plan.digest for _, plan in _all(root) if _is_for(plan, basis)]
    return ApprovalRefused(
        "No plan with this digest waits for approval here.",
        expected=", ".join(here) or "a plan that was shown, and waits",
        observed=f"{approved}: applied, refused, or too old",
        next=NEW_PLAN.format(**basis),
    )


def _is_for(plan: Waiting, basis: Mapping[str, str]) -> bool:
    return all(plan.basis[name] == basis[name] for name in ("environment", "step"))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs, one line each: "commit: was 3fa9c2, is 77b0e1"."""
    names = dict.fromkeys([*before, *now])
    return [
        f"{name}: was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def use(root: Path, plan: Waiting, by: str) -> None:
    """Take a plan away to apply it: the run that holds it can, once."""
    try:
        _ticket(root, plan.environment, by).unlink()
    except FileNotFoundError as err:
        raise ApprovalRefused(
            f"{plan.digest} does not wait any more.",
            expected="a plan that nobody has applied or refused",
            observed="another run has taken it",
            next=NEW_PLAN.format(**plan.basis),
        ) from err


def discard(root: Path, environment: str, run: str) -> None:
    """Delete a plan; it need not be there."""
    _ticket(root, environment, run).unlink(missing_ok=True)
    plan_file(root, environment, run).unlink(missing_ok=True)


def forget_old(root: Path, environment: str, hours: int) -> None:
    """Delete plans that are too old, and those of runs that ended without waiting."""
    for path in sorted(_folder(root, environment).glob("*")):
        ticket = _ticket(root, environment, path.stem)
        plan = Waiting.decode(ticket.read_bytes()) if ticket.is_file() else None
        if (plan and plan.is_expired(hours)) or _is_over(root / "runs" / environment / path.stem):
            discard(root, environment, path.stem)


def _is_over(folder: Path) -> bool:
    """Tell whether a run has ended, and not by waiting."""
    if closed := record.load(folder):
        return closed["status"] != "waiting"
    try:
        entries = journal.read(folder / journal.NAME)
    except FileNotFoundError:
        return True
    is_alive = provenance.is_alive(entries.header.get("kernel", {}))
    return not is_alive and summary.left_behind(entries) != "waiting"


def _is_closed(ticket: Path) -> bool:
    return record.load(ticket.parents[1] / ticket.stem) is not None


def _all(root: Path) -> Iterator[tuple[Path, Waiting]]:
    for path in (root / "runs").glob(f"*/{FOLDER}/*.json"):
        yield path, Waiting.decode(path.read_bytes())


def _folder(root: Path, environment: str) -> Path:
    return root / "runs" / environment / FOLDER


def _ticket(root: Path, environment: str, run: str) -> Path:
    return _folder(root, environment) / f"{run}.json"


def _write(ticket: Path, plan: Waiting) -> None:
    ticket.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a ticket that a full disk cut would stop every later run.
    journal.replace(ticket, plan.encode())
    ticket.chmod(0o600)


def _short(value: object) -> str:
    text = str(value or "nothing")
    return text[:12] if len(text) >= 40 and " " not in text else text
