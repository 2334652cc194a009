"""Run a step's process in a separate process group and pass on its lines as they arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TIMED_OUT = -1
PATIENCE_S = ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5), (signal.SIGKILL, 2.5))
POLL_S = 0.1
LAST_LINES_S = 2


def run(
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    *,
    on_line: Callable[[str], None],
    is_cancelled: Callable[[], bool],
    timeout_s: float,
) -> int:
    """Run a command and return its exit code, or TIMED_OUT."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    reader = threading.Thread(target=_read, args=(process, on_line), daemon=True)
    reader.start()
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and not is_cancelled() and time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
    is_late = process.poll() is None and not is_cancelled()
    if process.poll() is None:
        _terminate(process)
    # Background processes of the step may keep the pipe open longer.
    reader.join(LAST_LINES_S)
    return TIMED_OUT if is_late else process.returncode


def _read(process: subprocess.Popen, on_line: Callable[[str], None]) -> None:
    for line in process.stdout:
        on_line(line.decode("utf-8", "replace").rstrip("\r\n"))


def _terminate(process: subprocess.Popen) -> None:
    """Signal the process group until it exits: SIGINT, SIGTERM, SIGKILL."""
    for number, patience_s in PATIENCE_S:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return
