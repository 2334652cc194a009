"""Run a notebook headless: papermill in a thread, signals in the main thread, one exit code."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import papermill
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from traitlets.config import Config

from daybook.errors import CommandFailed, Unexpected, is_known, one_line
from daybook.headless.terminal import Terminal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KERNEL_LOG = "kernel.log"
IDLE_S = 10.0
"""How long an interrupted kernel may be idle while the client waits for its cell."""
LOG_BYTES = 4096
"""How much of the end of a kernel's log is read for its last line."""
# The end of a run also ends its event loop, which would log a warning on the terminal.
logging.getLogger("asyncio").addHandler(logging.NullHandler())


class Interruption(Exception):
    """A signal ended the notebook; the remaining cells were not run."""


@dataclass
class _Session:
    """The state of one execution that the two threads share."""

    terminal: Terminal
    kernel_pid: int | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    idle_since: float | None = None

    def interrupt(self, signum: int, _frame: object) -> None:
        """Forward the first signal to the kernel; its tools get time to finish."""
        if signum == signal.SIGHUP:
            self.terminal.detach()
        if self.stopping.is_set():
            return
        self.idle_since = self.idle_since and time.monotonic()
        self.stopping.set()
        self.terminal.note(f"{signal.Signals(signum).name}: waiting for the running tool to end…")
        self.interrupt_kernel()

    def outcome(self) -> BaseException | None:
        """Return the error that ended the notebook early, or None.

        After a signal, an error that is not Daybook's own counts as the interruption: a signal
        during an import, for example, does not always appear as KeyboardInterrupt.
        """
        name = getattr(self.error, "ename", "")
        is_own = is_known(name) and name != Unexpected.__name__
        is_interruption = self.error and self.stopping.is_set() and not is_own
        return Interruption() if is_interruption else self.error

    def interrupt_kernel(self) -> None:
        """Interrupt the kernel's cell; an idle kernel ignores the signal."""
        if self.kernel_pid:
            os.kill(self.kernel_pid, signal.SIGINT)

    def note_status(self, state: str) -> None:
        """Note the time at which the kernel became idle."""
        self.idle_since = None if state == "busy" else time.monotonic()

    def end_idle_kernel(self) -> None:
        """End an idle kernel that lost its cell to the interrupt and will never answer."""
        if not (self.stopping.is_set() and self.kernel_pid and self.idle_since):
            return
        if time.monotonic() - self.idle_since > IDLE_S:
            self.idle_since = None
            os.kill(self.kernel_pid, signal.SIGTERM)


def execute(
    notebook: Path, parameters: Mapping[str, object], *, root: Path, terminal: Terminal
) -> BaseException | None:
    """Run a notebook and return the error that ended it early, or None.

    No executed copy is written: the kernel writes the record.
    """
    session = _Session(terminal)
    with tempfile.TemporaryDirectory(prefix="daybook-", ignore_cleanup_errors=True) as scratch:
        papermill_engines.register("daybook", _engine(session, Path(scratch)))
        worker = threading.Thread(
            target=_work,
            args=(session, notebook, dict(parameters), root, Path(scratch)),
            daemon=True,
        )
        before = {signum: signal.signal(signum, session.interrupt) for signum in SIGNALS}
        try:
            worker.start()
            while worker.is_alive():
                worker.join(0.2)
                session.end_idle_kernel()
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
    return session.outcome()


def _work(
    session: _Session, notebook: Path, parameters: dict[str, object], root: Path, scratch: Path
) -> None:
    try:
        papermill.execute_notebook(
            notebook,
            None,
            parameters,
            engine_name="daybook",
            kernel_name="python3",
            progress_bar=False,
            cwd=root,
        )
    except BaseException as err:
        session.error = err


def _engine(session: _Session, scratch: Path) -> type[NBClientEngine]:
    class Client(PapermillNotebookClient):
        """Shows messages as they arrive, and stops between cells after a signal."""

        def execute_cell(self, cell, cell_index, **kwargs):
            if session.stopping.is_set():
                raise Interruption
            session.kernel_pid = self.km.provisioner.pid
            session.note_status("idle")
            session.terminal.cell(cell)
            return super().execute_cell(cell, cell_index, **kwargs)

        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] == "execute_input" and session.stopping.is_set():
                # The signal arrived after the cell was sent, while the kernel was still idle.
                session.interrupt_kernel()
            if msg["msg_type"] == "status":
                session.note_status(msg["content"]["execution_state"])
            session.terminal.message(msg)
            return super().process_message(msg, cell, cell_index)

    class Engine(NBClientEngine):
        """Papermill's engine with the client above."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, log_output=False, **_kwargs):
            # Sockets in this run's own folder: no other process can use the kernel's port, and
            # two runs that start at the same time cannot collide.
            sockets = {"transport": "ipc", "ip": str(scratch / "kernel")}
            config = Config({"KernelManager": sockets})
            options = {"kernel_name": kernel_name, "startup_timeout": 60, "config": config}
            # A kernel's own stderr is about the kernel, never about the run.
            with (scratch / KERNEL_LOG).open("wb") as log:
                try:
                    return Client(nb_man, **options).execute(stderr=log)
                except RuntimeError as err:
                    raise _kernel_ended(scratch / KERNEL_LOG, err) from err

    return Engine


def _kernel_ended(log: Path, err: RuntimeError) -> CommandFailed:
    """Return the error of a kernel that ended unexpectedly, with its last line of output."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        lines = file.read().decode("utf-8", "replace").split("\n")
    lines = [line for line in lines if line.strip() and not line.startswith("KeyboardInterrupt")]
    return CommandFailed(
        "The kernel ended before the notebook.",
        expected="a kernel that runs the notebook to its end",
        observed=one_line(lines[-1] if lines else str(err)),
        changed="",
        next="run this step again; if the kernel ends again, check the free memory (free -m) "
        "and the limits (ulimit -a)",
    )
