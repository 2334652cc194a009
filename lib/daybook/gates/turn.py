"""A run's turn at an environment: from before its plan until it has looked at what it changed."""

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

from daybook import aws, keeper, process, ui
from daybook.errors import DaybookError, Interrupted, Locked
from daybook.gates import rescue
from daybook.gates.lock import Holder, Lock, seconds
from daybook.record import provenance
from daybook.record.journal import now
from daybook.run import Run

WAIT = "DAYBOOK_WAIT"
"""How long to wait for another run, such as 10m; set by `daybook run --wait`."""
ACCOUNT = rescue.ACCOUNT
lock_in = rescue.lock_in


def holder_of(run: Run, reason: str = "") -> Holder:
    """Return what a lock is to say of a run."""
    who = provenance.operator(run.root)
    named = f"{who['name']} <{who['email']}>" if who["email"] else ""
    return Holder(
        run=run.id,
        step=run.step,
        operator=f"{who['user']} {named}".strip(),
        host=socket.gethostname(),
        target=run.target.title,
        since=now(),
        reason=reason,
        life=run.life.proof,
    )


class _Keeper:
    """A process beside the run, which gives its lock back when the run is killed."""

    def __init__(self, run: Run, name: str) -> None:
        clear_up = [sys.executable, "-m", rescue.__name__, run.root, run.env, run.id, name]
        script = [sys.executable, "-I", "-S", keeper.__file__]
        watched = [run.life.path, f"{process.MARK}={run.life.path.name}."]
        self._process = subprocess.Popen(
            [*script, *watched, *clear_up, run.target.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=run.root,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Tell it that there is nothing to give back."""
        try:
            self._process.communicate(b".", timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()


class Turn:
    """Holds a lock while a cell of the run works; between two cells it is left to run out.

    name: None for a run that changes nothing.
    """

    def __init__(self, run: Run, name: str | None) -> None:
        self.run, self.name = run, name
        self._lock: Lock | None = None
        self._keeper: _Keeper | None = None
        self._state_locks: list[str] = []
        self._wait_s = seconds(os.environ.get(WAIT, ""))
        run.start = self._guarded(run.start)
        run.at_end.append(self.end)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Take the lock, waiting for as long as the operator wants to; Locked after that."""
        self.end()
        if self._can_be_locked():
            self._keeper = _Keeper(self.run, self.name)
            try:
                self._begin()
            except Locked:
                self.end()
                raise
            except BaseException:
                # The lock may have been written all the same.
                self.run.may_hold_lock = True
                self.end()
                raise
        with self.kept():
            # Who may not even look there is told by Terraform itself.
            with suppress(*aws.FAILURES):
                self._remove_left_state_lock()
            yield

    def _begin(self) -> None:
        lock = lock_in(self.run.target, self.run.settings.app, self.name)
        self._take(lock)
        self._lock = lock
        self.run.write("note", what="lock taken", lock=lock.key)

    def _remove_left_state_lock(self) -> None:
        """Remove Terraform's lock on the state when a run that is over left it, and say so."""
        where, app = self.run.target, self.run.settings.app
        found = rescue.state_lock(where, app, self.name) if self._lock else None
        if found is None:
            return
        left = rescue.left_by(self.run.root, found.id, self._lock.before, but=self.run.id)
        if left is None:
            return
        with ui.Progress(f"Terraform's lock on the state of {self.name}") as progress:
            if left.in_s:
                until = f"{left.in_s:.0f} s, in which {left.run} may still save its state"
                progress.row("state lock", ui.busy("waiting"), until)
                time.sleep(left.in_s)
            if rescue.remove_state_lock(where, app, found):
                said = f"{found.id}, left by {left.run}, which is over"
                self.run.write("change", tool="daybook", action="removed", what=f"lock {said}")
                progress.row("state lock", ui.good("removed"), said)
            else:
                progress.row("state lock", ui.good("released"), f"{found.id}, by {left.run}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Go on with the turn; Locked when another run has had its own since."""
        if self._lock is None:
            yield
            return
        try:
            self._lock.require()
            with self._lock.kept(on_lost=_interrupt):
                yield
        except (KeyboardInterrupt, Interrupted) as err:
            if self._lock.lost:
                raise _with_changes(self._lock.lost, err) from err
            self.end()
            raise
        except BaseException:
            self.end()
            raise

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Look at what was changed, undisturbed while nobody else had a turn; then end this one."""
        try:
            if self._lock:
                self._lock.require()
        except Locked:
            self._lock = None
        with self.kept():
            yield
        self.end()

    def end(self) -> None:
        """Give the lock back, and Terraform's own when one of our tools was killed with it."""
        if self._lock:
            with suppress(*aws.FAILURES):
                self._remove_own_state_lock()
            self.run.may_hold_lock |= not self._lock.release()
            self._lock = None
        if self._keeper:
            self._keeper.dismiss()
            self._keeper = None

    def note_state_lock(self, id: str) -> None:
        """Write down which lock Terraform asks for, for whoever finds it left; from any thread."""
        if id in self._state_locks:
            return
        self._state_locks.append(id)
        self.run.write("note", what="Terraform's lock", id=id)
        if self._lock:
            with suppress(Locked, *aws.FAILURES):
                self._lock.note_state_lock(id)

    def _remove_own_state_lock(self) -> None:
        where, app = self.run.target, self.run.settings.app
        found = rescue.state_lock(where, app, self.name) if self._state_locks else None
        if found and found.id in self._state_locks and rescue.remove_state_lock(where, app, found):
            self.run.write("note", what="Terraform's lock removed", id=found.id)

    def require(self) -> None:
        """Raise Locked when the turn was taken away; to be asked before any change."""
        if self._lock:
            self._lock.require()

    def _guarded(self, start: process.Start) -> process.Start:
        """Wrap what starts tools: none is started when the turn was taken away."""

        def run(*args, **options) -> process.Result:
            self.require()
            return start(*args, **options)

        return run

    def _can_be_locked(self) -> bool:
        if self.name is None:
            return False
        bucket = aws.state_bucket(self.run.target, self.run.settings.app)
        if aws.bucket_exists(self.run.target, bucket):
            return True
        self.run.write("note", what="no lock", reason="the state bucket does not exist yet")
        return False

    def _take(self, lock: Lock) -> None:
        holder = holder_of(self.run)
        if not self._wait_s:
            lock.take(holder)
            return
        with ui.Progress(f"a turn at {self.name}") as progress:
            lock.take(holder, wait_s=self._wait_s, on_wait=_say(progress))
            progress.row("lock", ui.good("taken"))


def _interrupt() -> None:
    """Let the tool that runs end its work, as Ctrl-C does; a main thread that reads must wake."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def _say(progress: ui.Progress) -> Callable[[Locked], None]:
    return lambda held: progress.row("lock", ui.busy("waiting"), ", ".join(held.details))


def _with_changes(lost: Locked, err: BaseException) -> DaybookError:
    """Let the error of a lost turn say what the interrupted tool had changed."""
    if isinstance(err, Interrupted):
        lost.changed = err.changed
    return lost
