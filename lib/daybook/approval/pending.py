"""Pending plans: stored beside the runs, claimed by a later run, deleted when they are outdated.

`runs/<env>/.plans/` has a `<run>.json` for each pending plan, with its basis, and for Terraform a
`<run>.tfplan`, which contains secrets and so is not part of the record:
docs/adr/0004-waiting-plans.md.
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
"""The facts that every basis has, because statements about the plan name them."""
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NEW_PLAN = "make a new plan: daybook run {step} -p env {environment}"


@dataclass(frozen=True)
class PendingPlan:
    """A plan that was shown and has been neither applied nor refused.

    basis: the facts that must be the same when it is applied:
    {"commit": "3fa9…", "state": "serial 7 …"}.
    operator: its author, {"name": …, "email": …, "user": …, "key": "SHA256:…"}.
    summary: the plan as it was shown, as text.
    is_published: whether other machines can see it, and so may have applied it.
    planned: the author's signed statement when a second person must approve, or empty.
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
        """Return the facts that a statement about it must name."""
        facts = {"run": self.run, "digest": self.digest, "made": self.made}
        basis = {name: self.basis[name] for name in _BASIS}
        return facts | basis | {"summary": statement.sha256(self.summary)}

    def is_expired(self, hours: int, now: datetime | None = None) -> bool:
        """Tell whether it is older than this."""
        age = (now or datetime.now(UTC)) - datetime.fromisoformat(self.made)
        return age > timedelta(hours=hours)

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, raw: bytes) -> PendingPlan:
        """Return the plan that `encode` wrote; ApprovalRefused for any other content."""
        try:
            plan = cls(**json.loads(raw))
            is_valid = all(isinstance(getattr(plan, name), str) for name in _TEXTS)
            is_valid &= all(map(_is_texts, (plan.basis, plan.operator, plan.planned)))
            is_valid &= all(name in plan.basis for name in _BASIS)
            is_valid &= isinstance(plan.is_published, bool)
            is_valid &= bool(_RUN.fullmatch(plan.run))
            is_valid &= datetime.fromisoformat(plan.made).tzinfo is not None
        except (ValueError, TypeError, AttributeError, RecursionError):
            is_valid = False
        if not is_valid:
            raise ApprovalRefused(
                "A pending plan cannot be read: it was not written by this version of Daybook.",
                next="run the step again without approve to make a new plan",
            )
        return plan


def plan_file(root: Path, environment: str, run: str) -> Path:
    """Return the path of the Terraform plan that a run holds until it is applied or refused."""
    return _folder(root, environment) / f"{run}.tfplan"


def keep(root: Path, plan: PendingPlan, hours: int) -> PendingPlan:
    """Store a plan until it is applied or refused; only its owner can read the file.

    Returns the plan under the first run that made it, if that plan is still pending, because
    decisions about it remain valid.
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
    """Note in the file of the run `by` that other machines can see the plan; return the plan."""
    noted = replace(plan, is_published=True)
    _write(_pending_path(root, plan.environment, by), noted)
    return noted


def digest_of(root: Path, run: str) -> str:
    """Return the digest of the plan that a run left pending, "" if there is none."""
    digests = (plan.digest for path, plan in _all(root) if run in (plan.run, path.stem))
    return next(digests, "")


def claim(
    root: Path,
    approved: str,
    basis: Mapping[str, str],
    hours: int,
    by: str,
    published: Callable[[], PendingPlan | None] = lambda: None,
) -> PendingPlan:
    """Assign the pending plan with a digest to the run `by`.

    basis: the current facts. hours: the largest accepted age. published: returns the plan that
    another machine published under the digest; called when none is pending here.
    ApprovalRefused lists the plans that are pending, or the differences; an outdated plan is
    deleted.
    """
    plans = {path: plan for path, plan in _all(root) if plan.digest == approved}
    if not plans:
        if not (plan := published()):
            raise _not_pending(root, approved, basis)
        require_current(plan, basis, hours)
        _write(_pending_path(root, plan.environment, by), plan)
        return plan
    path = max(plans, key=lambda path: plans[path].made)
    plan = plans[path]
    try:
        require_current(plan, basis, hours)
    except ApprovalRefused:
        if _is_for(plan, basis):
            discard(root, plan.environment, path.stem)
        raise
    try:
        path.rename(_pending_path(root, plan.environment, by))
    except FileNotFoundError as err:
        raise _not_pending(root, approved, basis) from err
    saved = path.with_suffix(".tfplan")
    if saved.exists():
        saved.rename(plan_file(root, plan.environment, by))
    return plan


def require_current(plan: PendingPlan, basis: Mapping[str, str], hours: int) -> None:
    """Raise ApprovalRefused with everything that has changed since the plan was made."""
    details = differences(plan.basis, basis)
    if plan.is_expired(hours):
        details.append(f"age: made at {plan.made}; a plan expires after {hours} hours")
    if details:
        raise ApprovalRefused(
            f"{plan.digest} can no longer be applied.",
            details=details,
            next=NEW_PLAN.format(**basis),
        )


def _not_pending(root: Path, approved: str, basis: Mapping[str, str]) -> ApprovalRefused:
    digests = [plan.digest for _, plan in _all(root) if _is_for(plan, basis)]
    return ApprovalRefused(
        "No plan with this digest is pending here.",
        expected=", ".join(digests) or "a plan that was shown and is still pending",
        observed=f"{approved}: never shown here, applied, refused, or expired",
        next=NEW_PLAN.format(**basis),
    )


def _is_for(plan: PendingPlan, basis: Mapping[str, str]) -> bool:
    return all(plan.basis[name] == basis[name] for name in ("environment", "step"))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line per difference: "commit: was 3fa9c2, is 77b0e1"."""
    names = dict.fromkeys([*before, *now])
    return [
        f"{name}: was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def consume(root: Path, plan: PendingPlan, by: str) -> None:
    """Delete the pending plan of the run `by`, which may then apply it once."""
    try:
        _pending_path(root, plan.environment, by).unlink()
    except FileNotFoundError as err:
        raise ApprovalRefused(
            f"{plan.digest} is no longer pending.",
            expected="a plan that was not applied or refused",
            observed="another run on this machine has claimed or discarded it",
            next=NEW_PLAN.format(**plan.basis),
        ) from err


def discard(root: Path, environment: str, run: str) -> None:
    """Delete a pending plan, if it exists."""
    _pending_path(root, environment, run).unlink(missing_ok=True)
    plan_file(root, environment, run).unlink(missing_ok=True)


def delete_outdated(root: Path, environment: str, hours: int) -> None:
    """Delete expired plans, and those of runs that ended without waiting for approval."""
    for path in sorted(_folder(root, environment).glob("*")):
        plan = _read(_pending_path(root, environment, path.stem))
        if (plan and plan.is_expired(hours)) or _has_ended(root / "runs" / environment / path.stem):
            discard(root, environment, path.stem)


def _has_ended(folder: Path) -> bool:
    """Tell whether a run has ended, other than by waiting for approval."""
    try:
        if closed := seal.load(folder):
            return closed["status"] != "waiting"
        entries = journal.read(folder / journal.NAME)
    except FileNotFoundError:
        return True
    except (OSError, VerifyFailed):
        return False  # The record is unreadable: its plan stays until it expires.
    is_alive = provenance.is_alive(entries.header.get("kernel", {}))
    return not is_alive and summary.abandoned_status(entries) != "waiting"


def _is_closed(path: Path) -> bool:
    return (path.parents[1] / path.stem / seal.NAME).exists()


def _all(root: Path) -> Iterator[tuple[Path, PendingPlan]]:
    for path in (root / "runs").glob(f"*/{PLANS}/*.json"):
        if plan := _read(path):
            yield path, plan


def _read(path: Path) -> PendingPlan | None:
    """Return the plan of a file; None when the file is missing or unreadable."""
    with suppress(FileNotFoundError, ApprovalRefused):
        return PendingPlan.decode(path.read_bytes())
    return None


def _folder(root: Path, environment: str) -> Path:
    return root / "runs" / environment / PLANS


def _pending_path(root: Path, environment: str, run: str) -> Path:
    return _folder(root, environment) / f"{run}.json"


def _write(path: Path, plan: PendingPlan) -> None:
    private_files.make_folder(path.parent)
    # Whole or not at all: a file cut short by a full disk would stop every later run.
    journal.replace(path, plan.encode())


def _is_texts(value: object) -> bool:
    """Tell whether a JSON value is an object with only string values."""
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _short(value: object) -> str:
    text = str(value or "nothing")
    return text[:12] if len(text) >= 40 and " " not in text else text
