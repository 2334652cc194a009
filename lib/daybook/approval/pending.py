"""Plans that wait for approval: kept beside the runs, taken up again, forgotten when over.

`runs/<env>/.plans/` has for each a `<run>.json`, what the plan rests on, and for Terraform a
`<run>.tfplan`, which holds secrets: it is no part of the record (docs/adr/0004-waiting-plans.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from daybook import private_files
from daybook.errors import ApprovalRefused, VerifyFailed
from daybook.record import journal, provenance, seal, statement, summary
from daybook.run import PLANS

_TEXTS = ("run", "digest", "made", "summary")
_BASIS = tuple(
    name for name in statement.SUBJECT if name not in ("run", "digest", "summary", "made")
)
"""What a plan must rest on at least: what statements about it name."""
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NEW_PLAN = "make a new plan: daybook run {step} -p env {environment}"


@dataclass(frozen=True)
class PendingPlan:
    """A plan that was shown and is neither applied nor refused yet.

    basis: what must be the same when it is applied: {"commit": "3fa9…", "state": "serial 7 …"}.
    operator: who made it, {"name": …, "email": …, "user": …, "key": "SHA256:…"}.
    summary: the plan as it was shown, as text.
    is_published: whether other machines can see it, and so may have taken it.
    planned: the signed statement of who made it, where a second person must approve; or empty.
    """

    run: str
    digest: str
    made: str
    basis: Mapping[str, str]
    operator: Mapping[str, str]
    summary: str
    is_published: bool = False
    planned: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> str:
        """Return the environment that it changes."""
        return self.basis["environment"]

    @property
    def about(self) -> dict[str, str]:
        """Return what a statement about it must name."""
        facts = {"run": self.run, "digest": self.digest, "made": self.made}
        place = {name: self.basis[name] for name in _BASIS}
        return facts | place | {"summary": statement.sha256(self.summary)}

    def is_expired(self, hours: int, now: datetime | None = None) -> bool:
        """Tell whether it has waited for longer than this."""
        age = (now or datetime.now(UTC)) - datetime.fromisoformat(self.made)
        return age > timedelta(hours=hours)

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, raw: bytes) -> PendingPlan:
        """Return what `encode` wrote; ApprovalRefused when somebody else wrote it."""
        try:
            found = cls(**json.loads(raw))
            is_whole = all(isinstance(getattr(found, name), str) for name in _TEXTS)
            is_whole &= all(map(_is_texts, (found.basis, found.operator, found.planned)))
            is_whole &= all(name in found.basis for name in _BASIS)
            is_whole &= isinstance(found.is_published, bool)
            is_whole &= bool(_RUN.fullmatch(found.run))
            is_whole &= datetime.fromisoformat(found.made).tzinfo is not None
        except (ValueError, TypeError, AttributeError, RecursionError):
            is_whole = False
        if not is_whole:
            raise ApprovalRefused(
                "A pending plan cannot be read: it was not written by this version of Daybook.",
                next="run the step again without approve: it makes a new plan",
            )
        return found


def plan_file(root: Path, environment: str, run: str) -> Path:
    """Return where the saved plan that a run holds is, until it is applied or refused."""
    return _folder(root, environment) / f"{run}.tfplan"


def keep(root: Path, plan: PendingPlan, hours: int) -> PendingPlan:
    """Keep a plan until it is applied or refused; only its owner may read it.

    Returns it under the name of the first run that made it, where that one is still pending: what
    others said of it since counts.
    """
    own_path = _pending_path(root, plan.environment, plan.run)
    for path, older in _all(root):
        own = {name: getattr(older, name) for name in ("run", "made", "is_published", "planned")}
        is_same = replace(plan, **own) == older
        if is_same and not older.is_expired(hours) and (path == own_path or _is_closed(path)):
            plan = older
            if path != own_path:
                discard(root, plan.environment, path.stem)
    _write(own_path, plan)
    return plan


def note_published(root: Path, plan: PendingPlan, by: str) -> PendingPlan:
    """Note in the run's file that other machines can see the plan; return the plan with it."""
    noted = replace(plan, is_published=True)
    _write(_pending_path(root, plan.environment, by), noted)
    return noted


def left_waiting_by(root: Path, run: str) -> str:
    """Return the digest of the plan that a run left waiting, "" when it left none."""
    found = (plan.digest for path, plan in _all(root) if run in (plan.run, path.stem))
    return next(found, "")


def claim(
    root: Path,
    approved: str,
    basis: Mapping[str, str],
    hours: int,
    by: str,
    elsewhere: Callable[[], PendingPlan | None] = lambda: None,
) -> PendingPlan:
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
        _write(_pending_path(root, found.environment, by), found)
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
        path.rename(_pending_path(root, plan.environment, by))
    except FileNotFoundError as err:
        raise _nothing_waits(root, approved, basis) from err
    saved = path.with_suffix(".tfplan")
    if saved.exists():
        saved.rename(plan_file(root, plan.environment, by))
    return plan


def require_current(plan: PendingPlan, basis: Mapping[str, str], hours: int) -> None:
    """Raise ApprovalRefused with all that is not as it was when the plan was made."""
    details = differences(plan.basis, basis)
    if plan.is_expired(hours):
        details.append(f"age: made at {plan.made}; a plan may wait {hours} hours")
    if details:
        raise ApprovalRefused(
            f"{plan.digest} can no longer be applied.",
            details=details,
            next=NEW_PLAN.format(**basis),
        )


def _nothing_waits(root: Path, approved: str, basis: Mapping[str, str]) -> ApprovalRefused:
    here = [plan.digest for _, plan in _all(root) if _is_for(plan, basis)]
    return ApprovalRefused(
        "No plan with this digest is pending here.",
        expected=", ".join(here) or "a plan that was shown and is still pending",
        observed=f"{approved}: never shown here, applied, refused, or too old",
        next=NEW_PLAN.format(**basis),
    )


def _is_for(plan: PendingPlan, basis: Mapping[str, str]) -> bool:
    return all(plan.basis[name] == basis[name] for name in ("environment", "step"))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs, one line each: "commit: was 3fa9c2, is 77b0e1"."""
    names = dict.fromkeys([*before, *now])
    return [
        f"{name}: was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def consume(root: Path, plan: PendingPlan, by: str) -> None:
    """Take a plan away to apply it: the run that holds it can, once."""
    try:
        _pending_path(root, plan.environment, by).unlink()
    except FileNotFoundError as err:
        raise ApprovalRefused(
            f"{plan.digest} is no longer pending.",
            expected="a plan that was not applied or refused",
            observed="another run on this machine has taken or discarded it",
            next=NEW_PLAN.format(**plan.basis),
        ) from err


def discard(root: Path, environment: str, run: str) -> None:
    """Delete a plan; it need not be there."""
    _pending_path(root, environment, run).unlink(missing_ok=True)
    plan_file(root, environment, run).unlink(missing_ok=True)


def forget_old(root: Path, environment: str, hours: int) -> None:
    """Delete plans that are too old, and those of runs that ended without waiting."""
    for path in sorted(_folder(root, environment).glob("*")):
        plan = _read(_pending_path(root, environment, path.stem))
        if (plan and plan.is_expired(hours)) or _is_over(root / "runs" / environment / path.stem):
            discard(root, environment, path.stem)


def _is_over(folder: Path) -> bool:
    """Tell whether a run has ended, and not by waiting."""
    try:
        if closed := seal.load(folder):
            return closed["status"] != "waiting"
        entries = journal.read(folder / journal.NAME)
    except FileNotFoundError:
        return True
    except (OSError, VerifyFailed):
        return False  # It cannot be read: its plan stays until it is too old.
    is_alive = provenance.is_alive(entries.header.get("kernel", {}))
    return not is_alive and summary.abandoned_status(entries) != "waiting"


def _is_closed(path: Path) -> bool:
    return (path.parents[1] / path.stem / seal.NAME).exists()


def _all(root: Path) -> Iterator[tuple[Path, PendingPlan]]:
    for path in (root / "runs").glob(f"*/{PLANS}/*.json"):
        if plan := _read(path):
            yield path, plan


def _read(path: Path) -> PendingPlan | None:
    """Return the plan of a path; one that cannot be read is no plan."""
    with suppress(FileNotFoundError, ApprovalRefused):
        return PendingPlan.decode(path.read_bytes())
    return None


def _folder(root: Path, environment: str) -> Path:
    return root / "runs" / environment / PLANS


def _pending_path(root: Path, environment: str, run: str) -> Path:
    return _folder(root, environment) / f"{run}.json"


def _write(path: Path, plan: PendingPlan) -> None:
    private_files.make_folder(path.parent)
    # Whole or not at all: a path that a full disk cut would stop every later run.
    journal.replace(path, plan.encode())


def _is_texts(found: object) -> bool:
    """Tell whether this is a dictionary of texts, as JSON gives it."""
    return isinstance(found, Mapping) and all(isinstance(value, str) for value in found.values())


def _short(value: object) -> str:
    text = str(value or "nothing")
    return text[:12] if len(text) >= 40 and " " not in text else text
