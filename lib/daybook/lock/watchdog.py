"""Wait for the end of a run that holds a lock; start the recovery if the run was killed.

    python -I -S watchdog.py ALIVE_FILE MARK COMMAND...

Standard input is a lifeline, as in supervisor.py: a byte means that the run released its lock, and
ends this process; end of file without one means that the run was killed. Then this process waits
for the run's tools, which their supervisors have interrupted, and kills tools that have lost their
supervisor. It uses only the standard library, because every run has one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time

POLL_S = 0.2
ORPHAN_GRACE_S = 5.0
"""How long a tool may continue without its supervisor, whose end interrupted it."""


def main(alive: str, mark: str, *command: str) -> None:
    """Wait for the end of the run; execute COMMAND if the run was killed."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    if os.read(sys.stdin.fileno(), 1):
        return
    wait_for_tools(alive, mark)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.execvp(command[0], command)


def wait_for_tools(alive: str, mark: str) -> None:
    """Wait until no process holds the run's file; kill processes without a supervisor."""
    supervised_at = time.monotonic()
    while not is_free(alive):
        processes = marked_processes(mark)
        if any(b"supervisor.py" in command for _, command in processes):
            supervised_at = time.monotonic()
        elif time.monotonic() > supervised_at + ORPHAN_GRACE_S:
            for pid, _ in processes:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def is_free(alive: str) -> bool:
    """Tell whether no process holds the file; true for a file that does not exist."""
    try:
        fd = os.open(alive, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def marked_processes(mark: str) -> list[tuple[int, bytes]]:
    """Return the id and command line of each process with the mark in its environment."""
    processes = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        with contextlib.suppress(OSError):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with open(f"/proc/{entry}/environ", "rb") as environ:
                if mark.encode() not in environ.read():
                    continue
            with open(f"/proc/{entry}/cmdline", "rb") as command:
                processes.append((int(entry), command.read()))
    return processes


if __name__ == "__main__":
    main(*sys.argv[1:])
