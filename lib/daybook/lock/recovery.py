"""Recovery from a killed run: release its locks, then close its record.

    python -m daybook.lock.recovery ROOT ENV RUN LOCK sandbox|aws

The watchdog of the run starts this after the last process of the run has ended.
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
"""How long a run on another machine may continue after its last write of the lock.

It stops when it can no longer trust a lock that it cannot renew; then its Terraform has a grace
period to end. A suspended machine takes longer.
"""


def lock_of(environment: Environment, name: str = "") -> Lock:
    """Return the lock of an environment, or for ACCOUNT that of the account's shared resources."""
    return Lock(environment.client("s3"), environment.state_bucket, name or environment.name)


def state_lock(environment: Environment, name: str) -> terraform.StateLock | None:
    """Return Terraform's lock on the state that a lock of Daybook covers, or None."""
    s3, bucket = environment.client("s3"), environment.state_bucket
    return terraform.state_lock.read(s3, bucket, _state_key(name))


def remove_state_lock(environment: Environment, lock: terraform.StateLock) -> bool:
    """Remove exactly this lock of Terraform; return False if it no longer exists."""
    s3, bucket = environment.client("s3"), environment.state_bucket
    return terraform.state_lock.remove(s3, bucket, lock)


@dataclass(frozen=True)
class Owner:
    """The ended run that owns a lock of Terraform. ends_in_s: the time until that is certain."""

    run: str
    ends_in_s: float = 0.0


def ended_owner(root: Path, id: str, previous: LockState | None, *, but: str) -> Owner | None:
    """Return the run that requested a lock of Terraform, if it has ended or certainly will.

    previous: the lock that this run's lock replaced. but: this run. None when the owner is
    unknown or still running.
    """
    for log in sorted((root / "runs").glob(f"*/*/attachments/{terraform.state_lock.LOG}")):
        folder = log.parents[1]
        if folder.name != but and id in terraform.state_lock.attempts(log):
            return Owner(folder.name) if seal.has_ended(folder) else None
    for request in previous.holder.state_locks if previous else ():
        if request.id == id:
            if liveness.is_over(request.life):
                return Owner(request.run)
            if liveness.is_here(request.life):
                return None
            return Owner(request.run, max(0.0, STOPPED_S - previous.age_s))
    return None


def finish(root: Path, env: str, run: str, name: str, *, rehearse: bool) -> None:
    """Release the locks of a killed run, and close its record."""
    folder = root / "runs" / env / run
    environment = Environment.load(root, env, rehearse=rehearse)
    with suppress(DaybookError, *aws.FAILURES):
        _release(folder, environment, name)
        liveness.file_of(folder).unlink(missing_ok=True)
    seal.close_abandoned(root, environment=env)


def _release(folder: Path, environment: Environment, name: str) -> None:
    ids = terraform.state_lock.attempts(folder / "attachments" / terraform.state_lock.LOG)
    left = state_lock(environment, name) if ids else None
    if left and left.id in ids and remove_state_lock(environment, left):
        seal.note(folder, what="Terraform's lock removed", id=left.id)
    lock = lock_of(environment, name)
    state = lock.read()
    if state and state.holder.run == folder.name:
        lock.remove(state)
        seal.note(folder, what="lock released by the watchdog", lock=lock.key)


def _state_key(name: str) -> str:
    if name == ACCOUNT:
        return terraform.state_lock.state_key("account", "default")
    return terraform.state_lock.state_key("environment", name)


if __name__ == "__main__":
    root, env, run, name, target = sys.argv[1:]
    finish(Path(root), env, run, name, rehearse=target == "sandbox")
