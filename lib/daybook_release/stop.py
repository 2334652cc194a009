"""End the command that holds the lock, whatever started it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from daybook_release import limits
from daybook_release.context import HostContext
from daybook_release.errors import Failed

POLL_S = 0.2
KILL_AFTER_S = 15.0
REPAIR = "sudo release repair"


def stop(context: HostContext) -> str:
    """End the processes that hold the lock, wait until it is free, and return a summary.

    A release undoes itself, or finishes if it is committed. After a killed command, only its
    remaining processes are ended; `repair` undoes its changes.
    """
    if not holders(context.store.lock_path):
        return _interrupted_state(context) or "no command is running"
    holder = context.store.holder()
    is_alive = bool(holder) and started(holder.pid) == holder.started
    if is_alive:
        _signal(holder.pid, signal.SIGTERM)
        _wait_until_free(context, limits.LOCK_S - limits.RELEASE_S)
        return _interrupted_state(context) or f"{holder.verb} was ended"
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in holders(context.store.lock_path):
            _signal(pid, number)
        if _is_free(context, KILL_AFTER_S):
            break
    _wait_until_free(context, 0)
    return _interrupted_state(context) or "the processes of a killed command were ended"


def started(pid: int) -> int:
    """Return when a process was started, in ticks since boot; 0 if it does not run.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    state, *rest = text.rpartition(")")[2].split()
    return 0 if state in "XZ" else int(rest[18])


def holders(lock: Path) -> list[int]:
    """Return the ids of the other processes that have the lock's file open.

    /proc/locks omits a lock if its first owner is dead, although child processes still hold it.
    """
    if not lock.exists():
        return []
    lock_file, pids = lock.stat(), set()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            file = path.stat()
        except OSError:
            continue
        if (file.st_dev, file.st_ino) == (lock_file.st_dev, lock_file.st_ino):
            pids.add(int(path.parts[2]))
    return sorted(pids - {os.getpid()})


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_free(context: HostContext, within_s: float) -> bool:
    deadline = context.system.monotonic() + within_s
    while holders(context.store.lock_path):
        if context.system.monotonic() > deadline:
            return False
        context.system.sleep(POLL_S)
    return True


def _wait_until_free(context: HostContext, within_s: float) -> None:
    if not _is_free(context, within_s):
        raise Failed(
            "The command did not end in time.", next="sudo release status; then stop again"
        )


def _interrupted_state(context: HostContext) -> str:
    state = context.store.state
    return f"no command is running; {state['id']} was interrupted; next: {REPAIR}" if state else ""
