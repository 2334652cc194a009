"""End the command that holds the lock, cleanly, wherever it was started."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from daybook_release import limits
from daybook_release.errors import Failed
from daybook_release.ground import Ground

POLL_S = 0.2
KILL_AFTER_S = 15.0
REPAIR = "sudo release repair"


def stop(ground: Ground) -> str:
    """End what holds the lock and wait until it is free; says what was done.

    A release undoes itself, or finishes when it is past its switch. What a killed command left
    behind is only ended: what it had begun is for `repair`.
    """
    if not holders(ground.store.lock_path):
        return _left(ground) or "nothing runs"
    holder = ground.store.holder()
    is_alive = bool(holder) and started(holder.pid) == holder.started
    if is_alive:
        _signal(holder.pid, signal.SIGTERM)
        _wait(ground, limits.LOCK_S - limits.RELEASE_S)
        return _left(ground) or f"{holder.verb} was ended"
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in holders(ground.store.lock_path):
            _signal(pid, number)
        if _is_free(ground, KILL_AFTER_S):
            break
    _wait(ground, 0)
    return _left(ground) or "what a killed command left running was ended"


def started(pid: int) -> int:
    """Return when a process was started, in ticks since boot; 0 when there is none.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    state, *rest = text.rpartition(")")[2].split()
    return 0 if state in "XZ" else int(rest[18])


def holders(lock: Path) -> list[int]:
    """Return the processes that have a lock's file open, but this one.

    /proc/locks leaves out a lock whose first owner is dead, though what it started holds it.
    """
    if not lock.exists():
        return []
    there, found = lock.stat(), set()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            file = path.stat()
        except OSError:
            continue
        if (file.st_dev, file.st_ino) == (there.st_dev, there.st_ino):
            found.add(int(path.parts[2]))
    return sorted(found - {os.getpid()})


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_free(ground: Ground, within_s: float) -> bool:
    deadline = ground.host.ticks() + within_s
    while holders(ground.store.lock_path):
        if ground.host.ticks() > deadline:
            return False
        ground.host.sleep(POLL_S)
    return True


def _wait(ground: Ground, within_s: float) -> None:
    if not _is_free(ground, within_s):
        raise Failed("It did not end in time.", next="sudo release status; then stop it again")


def _left(ground: Ground) -> str:
    state = ground.store.state
    return f"nothing runs; {state['id']} was interrupted; next: {REPAIR}" if state else ""
