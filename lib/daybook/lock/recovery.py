"""After a run that was killed: give back its locks, then close its record.

    python -m daybook.lock.recovery ROOT ENV RUN LOCK sandbox|aws

The watchdog that each run has beside it starts this when nothing of the run is left.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daybook import aws, liveness, terraform
from daybook.environment import ACCOUNT, Environment
from daybook.errors import DaybookError
from daybook.lock.object_lock import TERM_S, TRUSTED, Lock, LockState
from daybook.record import seal

STOPPED_S = TRUSTED * TERM_S + terraform.GRACE_S
"""How long a run on another machine may work after it last wrote its lock, if it is not suspended.

It stops when it could not renew the lock for long enough; then its Terraform has a while to end.
"""


def lock_of(environment: Environment, name: str = "") -> Lock:
    """Return the lock of an environment; by ACCOUNT, of what the account's environments share."""
    return Lock(environment.client("s3"), environment.state_bucket, name or environment.name)


def state_lock(environment: Environment, name: str) -> terraform.StateLock | None:
    """Return Terraform's lock on the state that a lock of Daybook's covers, or None."""
    s3, bucket = environment.client("s3"), environment.state_bucket
    return terraform.state_lock.read(s3, bucket, _state_key(name))


def remove_state_lock(environment: Environment, found: terraform.StateLock) -> bool:
    """Remove exactly this lock of Terraform's; False when it is gone or another one by now."""
    s3, bucket = environment.client("s3"), environment.state_bucket
    return terraform.state_lock.remove(s3, bucket, found)


@dataclass(frozen=True)
class Left:
    """The run that a lock of Terraform's is of. in_s: in how long it is over for certain."""

    run: str
    in_s: float = 0.0


def left_by(root: Path, id: str, before: LockState | None, *, but: str) -> Left | None:
    """Return the run that asked for a lock of Terraform's and is over, or will be.

    before: Daybook's lock as it was when it was taken. but: the run that asks. None for a lock of
    nobody that is known, or of a run that lives.
    """
    for log in sorted((root / "runs").glob(f"*/*/attachments/{terraform.state_lock.LOG}")):
        folder = log.parents[1]
        if folder.name != but and id in terraform.state_lock.attempts(log):
            return Left(folder.name) if seal.has_ended(folder) else None
    for request in before.holder.state_locks if before else ():
        if request.id == id:
            if liveness.is_over(request.life):
                return Left(request.run)
            if liveness.is_here(request.life):
                return None
            return Left(request.run, max(0.0, STOPPED_S - before.written_s))
    return None


def finish(root: Path, env: str, run: str, name: str, *, rehearse: bool) -> None:
    """Release what a killed run held, and close its record."""
    folder = root / "runs" / env / run
    environment = Environment.load(root, env, rehearse=rehearse)
    with suppress(DaybookError, *aws.FAILURES):
        _release(folder, environment, name)
        liveness.file_of(folder).unlink(missing_ok=True)
    seal.close_abandoned(root, environment=env)


def _release(folder: Path, environment: Environment, name: str) -> None:
    own = terraform.state_lock.attempts(folder / "attachments" / terraform.state_lock.LOG)
    found = state_lock(environment, name) if own else None
    if found and found.id in own and remove_state_lock(environment, found):
        seal.note(folder, what="Terraform's lock removed", id=found.id)
    held = lock_of(environment, name)
    seen = held.read()
    if seen and seen.holder.run == folder.name:
        held.remove(seen)
        seal.note(folder, what="lock given back by the watchdog", lock=held.key)


def _state_key(name: str) -> str:
    if name == ACCOUNT:
        return terraform.state_lock.state_key("account", "default")
    return terraform.state_lock.state_key("environment", name)


if __name__ == "__main__":
    root, env, run, name, goal = sys.argv[1:]
    finish(Path(root), env, run, name, rehearse=goal == "sandbox")
