"""The lock that a run holds on an environment, from its plan to its verification."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from daybook import aws, process, ui
from daybook.errors import DaybookError, Interrupted, Locked
from daybook.lock import recovery, watchdog
from daybook.lock.object_lock import Holder, Lock, parse_wait
from daybook.record import provenance
from daybook.record.journal import now
from daybook.run import Run

WAIT = "DAYBOOK_WAIT"
"""How long to wait for another run, such as 10m; set by `daybook run --wait`."""


def holder_of(run: Run, reason: str = "") -> Holder:
    """Return a run as the holder of a lock."""
    return Holder(
        run=run.id,
        step=run.step,
        operator=provenance.person(run.root),
        host=socket.gethostname(),
        target=run.target.title,
        since=now(),
        reason=reason,
        life=run.life.proof,
    )


class _Watchdog:
    """A process beside the run that releases its lock if the run is killed."""

    def __init__(self, run: Run, name: str) -> None:
        recover = [sys.executable, "-m", recovery.__name__, run.root, run.env, run.id, name]
        script = [sys.executable, "-I", "-S", watchdog.__file__]
        watched = [run.life.path, f"{process.MARK}={run.life.path.name}."]
        self._process = subprocess.Popen(
            [*script, *watched, *recover, run.target.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=run.root,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """End the process: the run has released its lock."""
        try:
            self._process.communicate(b".", timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()


class EnvironmentLock:
    """Holds a lock while a cell of the run executes; between two cells the lock may expire.

    name: None for a run that changes nothing.
    """

    def __init__(self, run: Run, name: str | None) -> None:
        self.run, self.name = run, name
        self._lock: Lock | None = None
        self._watchdog: _Watchdog | None = None
        self._state_locks: list[str] = []
        self._wait_s = parse_wait(os.environ.get(WAIT, ""))
        run.guards.append(self.verify_held)
        run.at_end.append(self.release)

    @contextmanager
    def acquire(self) -> Iterator[None]:
        """Acquire the lock, waiting up to the time in WAIT; Locked after that."""
        self.release()
        if self._can_be_locked():
            self._watchdog = _Watchdog(self.run, self.name)
            try:
                self._acquire()
            except Locked:
                self.release()
                raise
            except BaseException:
                # The lock may have been written before the error.
                self.run.may_hold_lock = True
                self.release()
                raise
        with self.hold():
            # Terraform itself reports a missing permission.
            with suppress(*aws.FAILURES):
                self._remove_abandoned_state_lock()
            yield

    def _acquire(self) -> None:
        lock = recovery.lock_of(self.run.environment, self.name)
        self._wait_for(lock)
        self._lock = lock
        self.run.write("note", what="lock acquired", lock=lock.key)

    def _remove_abandoned_state_lock(self) -> None:
        """Remove Terraform's lock on the state if its run has ended; show and record it."""
        environment = self.run.environment
        state_lock = recovery.state_lock(environment, self.name) if self._lock else None
        if state_lock is None:
            return
        owner = recovery.ended_owner(
            self.run.root, state_lock.id, self._lock.previous, but=self.run.id
        )
        if owner is None:
            return
        with ui.Progress(f"Terraform's lock on the state of {self.name}") as progress:
            if owner.ends_in_s:
                detail = f"{owner.ends_in_s:.0f} s, while {owner.run} may still save its state"
                progress.row("state lock", ui.busy("waiting"), detail)
                time.sleep(owner.ends_in_s)
            if recovery.remove_state_lock(environment, state_lock):
                detail = f"{state_lock.id} of {owner.run}, which has ended"
                self.run.write("change", tool="daybook", action="removed", what=f"lock {detail}")
                progress.row("state lock", ui.good("removed"), detail)
            else:
                detail = f"{state_lock.id}, by {owner.run}"
                progress.row("state lock", ui.good("released"), detail)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock while a cell executes; Locked when another run has acquired it since."""
        if self._lock is None:
            yield
            return
        try:
            self._lock.verify_held()
            with self._lock.held(on_lost=_interrupt):
                yield
        except (KeyboardInterrupt, Interrupted) as err:
            if self._lock.lost:
                raise _with_changes(self._lock.lost, err) from err
            self.release()
            raise
        except BaseException:
            self.release()
            raise

    @contextmanager
    def release_after(self) -> Iterator[None]:
        """Hold the lock while the change is verified, if it is still held; then release it."""
        try:
            if self._lock:
                self._lock.verify_held()
        except Locked:
            self._lock = None
        with self.hold():
            yield
        self.release()

    def release(self) -> None:
        """Release the lock, and Terraform's own lock if a killed tool of this run left one."""
        if self._lock:
            with suppress(*aws.FAILURES):
                self._remove_own_state_lock()
            self.run.may_hold_lock |= not self._lock.release()
            self._lock = None
        if self._watchdog:
            self._watchdog.dismiss()
            self._watchdog = None

    def note_state_lock(self, id: str) -> None:
        """Record the lock that Terraform requests, for recovery after a kill; from any thread."""
        if id in self._state_locks:
            return
        self._state_locks.append(id)
        self.run.write("note", what="Terraform's lock", id=id)
        if self._lock:
            with suppress(Locked, *aws.FAILURES):
                self._lock.note_state_lock(id)

    def _remove_own_state_lock(self) -> None:
        environment = self.run.environment
        state_lock = recovery.state_lock(environment, self.name) if self._state_locks else None
        if (
            state_lock
            and state_lock.id in self._state_locks
            and recovery.remove_state_lock(environment, state_lock)
        ):
            self.run.write("note", what="Terraform's lock removed", id=state_lock.id)

    def verify_held(self) -> None:
        """Raise Locked when the lock was lost; called before any change."""
        if self._lock:
            self._lock.verify_held()

    def _can_be_locked(self) -> bool:
        if self.name is None:
            return False
        if aws.bucket_exists(self.run.target, self.run.environment.state_bucket):
            return True
        self.run.write("note", what="no lock", reason="the state bucket does not exist yet")
        return False

    def _wait_for(self, lock: Lock) -> None:
        holder = holder_of(self.run)
        if not self._wait_s:
            lock.acquire(holder)
            return
        with ui.Progress(f"lock of {self.name}") as progress:
            lock.acquire(holder, wait_s=self._wait_s, on_wait=_show_holder(progress))
            progress.row("lock", ui.good("acquired"))


def _interrupt() -> None:
    """Interrupt the running tool as Ctrl-C does; the signal also wakes a blocked main thread."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def _show_holder(progress: ui.Progress) -> Callable[[Locked], None]:
    return lambda held: progress.row("lock", ui.busy("waiting"), ", ".join(held.details))


def _with_changes(lost: Locked, err: BaseException) -> DaybookError:
    """Return the error of a lost lock with the changes of the interrupted tool."""
    if isinstance(err, Interrupted):
        lost.changed = err.changed
    return lost
