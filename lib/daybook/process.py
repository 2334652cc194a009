"""Start a tool and wait for it, so that neither it nor its children outlive the run."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from daybook.errors import CommandFailed, ToolKilled
from daybook.liveness import Life

SUPERVISOR = Path(__file__).with_name("supervisor.py")
TAIL_LINES = 10
MARK = "DAYBOOK_TOOL"
"""Set for each tool and its children, to find them after their supervisor was killed."""
ORPHAN_GRACE_S = 5.0
"""How long an interrupted tool may take to end after its supervisor was killed."""


@dataclass(frozen=True)
class Result:
    """The result of a tool. returncode: as in a shell, 128+n after signal n."""

    args: tuple[str, ...]
    returncode: int
    duration_s: float
    tail: tuple[str, ...] = ()
    interrupted: bool = False
    shown: str = ""

    @property
    def command(self) -> str:
        """Return the command as an operator would type it."""
        return self.shown or shlex.join(self.args)


Start = Callable[..., Result]
OnLine = Callable[[str], None]


def run(
    args: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    on_line: OnLine | None = None,
    log: Path | None = None,
    stdin: bytes | None = None,
    timeout_s: float | None = None,
    grace_s: float = 60.0,
    check: bool = True,
    private: bool = False,
    life: Life | None = None,
    shown: str = "",
) -> Result:
    """Run a tool to its end; pass stdout and stderr together, line by line, to `on_line`.

    env: the tool's whole environment; default: that of this process. log: a file that gets the
    output first. stdin: the tool's input, for example a secret; empty by default. timeout_s: the
    tool is interrupted after this time. grace_s: how long an interrupted tool may take to end.
    private: the output contains secrets: the result omits it, and a wrapper of this function must
    not store it either. life: of the tool's run, which does not end before the tool.

    Ctrl-C in the main thread interrupts the tool once; KeyboardInterrupt is raised after the tool
    has ended. Raises CommandFailed if the tool is missing, times out, or (with check) ends with a
    code other than 0; ToolKilled, even without check, if a signal from elsewhere ended the tool
    or its supervisor.
    """
    command = tuple(os.fspath(arg) for arg in args)
    _require(command, env)
    started = time.monotonic()
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    mark = f"{life.path.name if life else ''}.{secrets.token_hex(8)}"
    marked = {**(os.environ if env is None else env), MARK: mark}
    with (
        _supervisor(
            command, env=marked, cwd=cwd, log=log, stdin=stdin, grace_s=grace_s, life=life
        ) as supervisor,
        supervisor.ends_after(timeout_s),
        supervisor.ends_on_sigint(),
    ):
        for line in supervisor.lines():
            tail.append(line)
            if on_line:
                on_line(line)
        returncode = supervisor.wait()
    signum = max(0, -returncode)
    if signum:
        _end_orphans(mark)
    result = Result(
        args=command,
        returncode=128 + signum if signum else returncode,
        duration_s=time.monotonic() - started,
        tail=() if private and returncode == 0 else tuple(tail),
        interrupted=bool(supervisor.reasons),
        shown=shown,
    )
    if signum and not supervisor.reasons:
        raise _killed(result, signum)
    return _judge(result, supervisor.reasons, timeout_s, check)


def _require(command: tuple[str, ...], env: Mapping[str, str] | None) -> None:
    if shutil.which(command[0], path=(os.environ if env is None else env).get("PATH")) is None:
        raise CommandFailed(
            f"{command[0]} is not installed or not on PATH.",
            expected=f"a program named {command[0]}",
            observed="none on PATH",
            next="make setup",
        )


def _judge(result: Result, reasons: list[str], timeout_s: float | None, check: bool) -> Result:
    if "SIGINT" in reasons:
        raise KeyboardInterrupt
    if "timeout" in reasons:
        raise CommandFailed(
            f"{result.command} timed out after {timeout_s:g} s.",
            result=result,
            details=result.tail,
            changed="",
        )
    if check and result.returncode != 0:
        raise CommandFailed(
            f"{result.command} failed with exit code {result.returncode}.",
            result=result,
            details=result.tail,
            expected="exit code 0",
            observed=f"exit code {result.returncode}",
            changed="",
        )
    return result


def _killed(result: Result, signum: int) -> ToolKilled:
    return ToolKilled(
        f"{result.command} was killed: {signal.strsignal(signum)} (signal {signum}).",
        result=result,
        details=result.tail,
        changed="",
        next="run this step again; `journalctl -k` shows whether memory ran out",
    )


def _end_orphans(mark: str) -> None:
    """End the tool of a killed supervisor, and all processes that the tool started."""
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while orphans := [p for p in psutil.process_iter() if _is_marked(p, mark)]:
        if time.monotonic() > deadline:
            for orphan in orphans:
                with suppress(psutil.Error):
                    orphan.kill()
        psutil.wait_procs(orphans, timeout=0.1)


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        is_marked = process.environ().get(MARK) == mark
        return is_marked and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class _Supervisor:
    """A started supervisor. reasons: why it was asked to end the tool; empty if it was not."""

    def __init__(self, process: subprocess.Popen, lifeline: int) -> None:
        self.process = process
        self.reasons: list[str] = []
        self._lifeline = [lifeline]

    def end(self, reason: str) -> None:
        """Interrupt the tool once. Safe in a signal handler and in any thread."""
        self.reasons.append(reason)
        self.cut()

    def cut(self) -> None:
        with suppress(IndexError):
            os.close(self._lifeline.pop())

    def lines(self) -> Iterator[str]:
        for line in self.process.stdout:
            yield line.rstrip("\n")

    def wait(self) -> int:
        return self.process.wait()

    @contextmanager
    def ends_after(self, timeout_s: float | None) -> Iterator[None]:
        timer = threading.Timer(timeout_s or 0, self.end, ["timeout"])
        timer.daemon = True
        if timeout_s is not None:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def ends_on_sigint(self) -> Iterator[None]:
        """Forward SIGINT once instead of raising KeyboardInterrupt at a random line."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, lambda *_: self.end("SIGINT"))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def _supervisor(
    command: tuple[str, ...],
    *,
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
    log: Path | None,
    stdin: bytes | None,
    grace_s: float,
    life: Life | None,
) -> Iterator[_Supervisor]:
    lifeline, ours = os.pipe()
    feed, feeder = os.pipe() if stdin is not None else (None, None)
    options = [
        str(grace_s),
        str(log.absolute()) if log else "-",
        "-" if feed is None else str(feed),
    ]
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR), *map(str, options), *command],
            stdin=lifeline,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[fd for fd in (feed, life and life.fd) if fd is not None],
            cwd=cwd,
            env=env,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
    except BaseException:
        _close(ours, feeder)
        raise
    finally:
        _close(lifeline, feed)
    supervisor = _Supervisor(process, ours)
    try:
        if feeder is not None:
            threading.Thread(target=_feed, args=(feeder, stdin), daemon=True).start()
        yield supervisor
    finally:
        # After an error in on_line too: interrupt the tool and wait for its end.
        supervisor.cut()
        for _ in supervisor.lines():
            pass
        process.stdout.close()
        process.wait()


def _close(*fds: int | None) -> None:
    for fd in fds:
        if fd is not None:
            os.close(fd)


def _feed(fd: int, data: bytes) -> None:
    with suppress(BrokenPipeError), open(fd, "wb") as pipe:
        pipe.write(data)
