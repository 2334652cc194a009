"""A run's turn at an environment: from before its plan until it has looked at what it changed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daybook import aws, process, ui
from daybook.errors import DaybookError, Interrupted, Locked
from daybook.gates.lock import Holder, Lock, seconds
from daybook.record import provenance
from daybook.record.journal import now
from daybook.run import Run
from daybook.target import Target

WAIT = "DAYBOOK_WAIT"
"""How long to wait for another run, such as 10m; set by `daybook run --wait`."""
ACCOUNT = "account"
"""The lock of what all environments share."""


def lock_in(where: Target, app: str, name: str) -> Lock:
    """Return the lock of an environment, or of what the account's environments share."""
    return Lock(aws.client(where, "s3"), aws.state_bucket(where, app), name)


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
    )


class Turn:
    """Holds a lock while a cell of the run works; between two cells it is left to run out.

    name: None for a run that changes nothing.
    """

    def __init__(self, run: Run, name: str | None) -> None:
        self.run, self.name = run, name
        self._lock: Lock | None = None
        self._wait_s = seconds(os.environ.get(WAIT, ""))
        run.start = self._guarded(run.start)
        run.at_end.append(self.end)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Take the lock, waiting for as long as the operator wants to; Locked after that."""
        self.end()
        if self._can_be_locked():
            lock = lock_in(self.run.target, self.run.settings.app, self.name)
            self._take(lock)
            self._lock = lock
            self.run.write("note", what="lock taken", lock=lock.key)
        with self.kept():
            yield

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
        """Give the lock back."""
        if self._lock:
            self._lock.release()
            self._lock = None

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
