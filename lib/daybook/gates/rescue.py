"""After a run that was killed: give back its locks, then close its record.

    python -m daybook.gates.rescue ROOT ENV RUN LOCK sandbox|aws

The keeper that each run has beside it starts this when nothing of the run is left.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from daybook import aws, liveness, settings, target, terraform
from daybook.errors import DaybookError
from daybook.gates.lock import Lock, Seen
from daybook.record import record
from daybook.target import Target

ACCOUNT = "account"
"""The lock of what all environments share."""


def lock_in(where: Target, app: str, name: str) -> Lock:
    """Return the lock of an environment, or of what the account's environments share."""
    return Lock(aws.client(where, "s3"), aws.state_bucket(where, app), name)


def state_lock(where: Target, app: str, name: str) -> terraform.StateLock | None:
    """Return Terraform's lock on the state that a lock of Daybook's covers, or None."""
    return terraform.lock.read(
        aws.client(where, "s3"), aws.state_bucket(where, app), _state_of(name)
    )


def remove_state_lock(where: Target, app: str, found: terraform.StateLock) -> bool:
    """Remove exactly this lock of Terraform's; False when it is gone or another one by now."""
    return terraform.lock.remove(aws.client(where, "s3"), aws.state_bucket(where, app), found)


def left_by(root: Path, id: str, before: Seen | None, *, but: str) -> str:
    """Return the run of this project that is over and asked for a lock of Terraform's, or "".

    before: Daybook's lock as it was, which names the state locks of its holder; it was over when
    it was taken. but: the run that asks.
    """
    if before and id in before.holder.state_locks:
        return before.holder.run or "the run before"
    for log in sorted((root / "runs").glob(f"*/*/attachments/{terraform.lock.LOG}")):
        folder = log.parents[1]
        if folder.name != but and id in terraform.lock.attempts(log) and record.is_over(folder):
            return folder.name
    return ""


def finish(root: Path, env: str, run: str, name: str, *, rehearse: bool) -> None:
    """Give back what a killed run held, and close its record."""
    folder = root / "runs" / env / run
    chosen = settings.load(root, env)
    where = target.resolve(chosen, root, rehearse=rehearse)
    with suppress(DaybookError, *aws.FAILURES):
        _give_back(folder, where, chosen.app, name)
        liveness.file_of(folder).unlink(missing_ok=True)
    record.settle(root, environment=env)


def _give_back(folder: Path, where: Target, app: str, name: str) -> None:
    held = lock_in(where, app, name)
    seen = held.read()
    if seen is None or seen.holder.run != folder.name:
        return
    known = {
        *seen.holder.state_locks,
        *terraform.lock.attempts(folder / "attachments" / terraform.lock.LOG),
    }
    found = state_lock(where, app, name)
    if found and found.id in known and remove_state_lock(where, app, found):
        record.note(folder, what="Terraform's lock removed", id=found.id, reason="it was killed")
    held.give_back(seen)
    record.note(folder, what="lock given back", lock=held.key, reason="it was killed")


def _state_of(name: str) -> str:
    if name == ACCOUNT:
        return terraform.lock.state_key("account", "default")
    return terraform.lock.state_key("environment", name)


if __name__ == "__main__":
    root, env, run, name, goal = sys.argv[1:]
    finish(Path(root), env, run, name, rehearse=goal == "sandbox")
