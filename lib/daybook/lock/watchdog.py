"""Wait for a run that holds a lock to end; when it was killed, start what clears up after it.

    python -I -S watchdog.py ALIVE_FILE MARK COMMAND...

Standard input is a lifeline, as a supervisor's is: a byte on it says that the lock was given back,
and ends this process; its end without one says that the run was killed. Then the run's tools are
waited for: their supervisors have interrupted them. What a killed supervisor left is ended here.
Standard library only, so that it costs little to have one beside each run.
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
"""How long a tool without a supervisor has: it was interrupted when its supervisor died."""


def main(alive: str, mark: str, *command: str) -> None:
    """Wait for the end of the run; become COMMAND when it was killed."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    if os.read(sys.stdin.fileno(), 1):
        return
    wait_for_tools(alive, mark)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nowhere, fd)
    os.execvp(command[0], command)


def wait_for_tools(alive: str, mark: str) -> None:
    """Wait until nobody holds the run's file any more; end what has no supervisor."""
    supervised = time.monotonic()
    while not is_free(alive):
        processes = marked(mark)
        if any(b"supervisor.py" in command for _, command in processes):
            supervised = time.monotonic()
        elif time.monotonic() > supervised + ORPHAN_GRACE_S:
            for pid, _ in processes:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def is_free(alive: str) -> bool:
    """Tell whether nobody holds the file; one that is gone is held by nobody."""
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


def marked(mark: str) -> list[tuple[int, bytes]]:
    """Return each process with the mark in its environment, and its command line."""
    found = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        with contextlib.suppress(OSError):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with open(f"/proc/{entry}/environ", "rb") as environ:
                if mark.encode() not in environ.read():
                    continue
            with open(f"/proc/{entry}/cmdline", "rb") as command:
                found.append((int(entry), command.read()))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
