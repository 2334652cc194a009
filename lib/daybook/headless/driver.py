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
"""How long a kernel that was interrupted may have nothing to do, and a cell no answer."""
LOG_BYTES = 4096
"""How much of the end of what a kernel says is read for its last line."""
# What ends a run also ends its event loop, which would complain on the terminal.
logging.getLogger("asyncio").addHandler(logging.NullHandler())


class Interruption(Exception):
    """A signal ended the notebook; its rest was not run."""


@dataclass
class _Session:
    """What the two threads share about one execution."""

    terminal: Terminal
    kernel_pid: int | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    idle_since: float | None = None

    def interrupt(self, signum: int, _frame: object) -> None:
        """Pass the first signal on to the kernel; its tools get time to end their work."""
        if signum == signal.SIGHUP:
            self.terminal.hang_up()
        if self.stopping.is_set():
            return
        self.idle_since = self.idle_since and time.monotonic()
        self.stopping.set()
        self.terminal.note(f"{signal.Signals(signum).name}: the running tool may finish its work…")
        self.interrupt_kernel()

    def outcome(self) -> BaseException | None:
        """Return what ended the notebook early.

        What a signal meets in the middle of an import, for one, does not always call itself
        KeyboardInterrupt: only Daybook's own errors have more to say than that a signal came.
        """
        name = getattr(self.error, "ename", "")
        has_more_to_say = is_known(name) and name != Unexpected.__name__
        is_ended_by_signal = self.error and self.stopping.is_set() and not has_more_to_say
        return Interruption() if is_ended_by_signal else self.error

    def interrupt_kernel(self) -> None:
        """Interrupt what the kernel runs; an idle kernel takes no notice."""
        if self.kernel_pid:
            os.kill(self.kernel_pid, signal.SIGINT)

    def see_status(self, state: str) -> None:
        """Note when the kernel began to have nothing to do."""
        self.idle_since = None if state == "busy" else time.monotonic()

    def end_idle_kernel(self) -> None:
        """End a kernel that lost the cell it was sent when the interrupt met it; none answers."""
        if not (self.stopping.is_set() and self.kernel_pid and self.idle_since):
            return
        if time.monotonic() - self.idle_since > IDLE_S:
            self.idle_since = None
            os.kill(self.kernel_pid, signal.SIGTERM)


def execute(
    notebook: Path, parameters: Mapping[str, object], *, root: Path, terminal: Terminal
) -> BaseException | None:
    """Run a notebook and return what ended it early, or None.

    No executed copy is written: the record is the kernel's own.
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
        """Shows messages as they come, and stops between cells when it is told to."""

        def execute_cell(self, cell, cell_index, **kwargs):
            if session.stopping.is_set():
                raise Interruption
            session.kernel_pid = self.km.provisioner.pid
            session.see_status("idle")
            session.terminal.cell(cell)
            return super().execute_cell(cell, cell_index, **kwargs)

        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] == "execute_input" and session.stopping.is_set():
                # The signal came when the cell was on its way, and the kernel still idle.
                session.interrupt_kernel()
            if msg["msg_type"] == "status":
                session.see_status(msg["content"]["execution_state"])
            session.terminal.message(msg)
            return super().process_message(msg, cell, cell_index)

    class Engine(NBClientEngine):
        """Papermill's own engine with the client above."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, log_output=False, **_kwargs):
            # Sockets in this run's own folder: no port on this machine speaks for the kernel, and
            # two runs that start at once do not take each other's.
            sockets = {"transport": "ipc", "ip": str(scratch / "kernel")}
            config = Config({"KernelManager": sockets})
            options = {"kernel_name": kernel_name, "startup_timeout": 60, "config": config}
            # What a kernel says on its own stderr is about itself, never about the run.
            with (scratch / KERNEL_LOG).open("wb") as log:
                try:
                    return Client(nb_man, **options).execute(stderr=log)
                except RuntimeError as err:
                    raise _kernel_ended(scratch / KERNEL_LOG, err) from err

    return Engine


def _kernel_ended(log: Path, err: RuntimeError) -> CommandFailed:
    """Return the error of a kernel that ended by itself, with the last line it wrote."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        lines = file.read().decode("utf-8", "replace").split("\n")
    lines = [line for line in lines if line.strip() and not line.startswith("KeyboardInterrupt")]
    said = lines[-1] if lines else str(err)
    return CommandFailed(
        "The kernel ended before the notebook did.",
        expected="a kernel that runs the notebook to its end",
        observed=one_line(said),
        changed="",
        next="run this step again; if the kernel ends again, see that there is memory (free -m) "
        "and that the limits allow enough (ulimit -a)",
    )
