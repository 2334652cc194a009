"""Tell whether a run is still alive: its kernel and its tools hold a lock on one file.

    life = liveness.hold(root / "runs" / "staging" / ".alive" / run)
    process.run(["terraform", "plan"], life=life)   # the tool holds it too
    liveness.is_over(life.proof)                    # False, in any process of this machine
    life.end()

The operating system releases the lock when the last of these processes ends, for any reason. A
process id proves less: it is reused, and it means nothing in another container.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from daybook import private_files

FOLDER = ".alive"
"""In `runs/<env>/`: one file for each run that has not ended cleanly."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Life:
    """A held lock. fd: inherited by tools, so that they hold it too."""

    path: Path
    fd: int

    @property
    def proof(self) -> dict[str, str]:
        """Return the argument of `is_over`, for any process of this machine."""
        stat = os.fstat(self.fd)
        inode = f"{stat.st_dev}:{stat.st_ino}"
        return {"boot": _boot(), "file": str(self.path), "inode": inode}

    def end(self, *, keep: bool = False) -> None:
        """Release the lock; a second call does nothing.

        A file that cannot be removed is harmless, because no process holds it any more.
        keep: keep the file, which proves to the next holder of the run's lock that the run has
        ended.
        """
        with suppress(OSError):
            if not keep:
                self.path.unlink(missing_ok=True)
        with suppress(OSError):
            os.close(self.fd)


def file_of(run_folder: Path) -> Path:
    """Return the file that a run holds while it is alive."""
    return run_folder.parent / FOLDER / run_folder.name


def hold(path: Path) -> Life:
    """Create the file and lock it."""
    private_files.make_folder(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return Life(path, fd)


def is_over(proof: Mapping[str, str]) -> bool:
    """Tell whether a run has certainly ended: on this boot of this machine, with this file.

    False when that cannot be proven: on another machine, or when the file does not exist.
    """
    boot, file, inode = (str(proof.get(name, "")) for name in ("boot", "file", "inode"))
    if not boot or boot != _boot() or not Path(file).is_absolute():
        return False
    with _opened(Path(file)) as fd:
        if fd is None:
            return False
        stat = os.fstat(fd)
        return f"{stat.st_dev}:{stat.st_ino}" == inode and _is_free(fd)


def is_here(proof: Mapping[str, str]) -> bool:
    """Tell whether a run was started on this machine since its last boot."""
    return bool(proof.get("boot")) and proof.get("boot") == _boot()


def is_alive(path: Path) -> bool:
    """Tell whether a process holds this file."""
    with _opened(path) as fd:
        return fd is not None and not _is_free(fd)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (OSError, ValueError):
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _is_free(fd: int) -> bool:
    """Tell whether no process holds the file; a shared lock, so that two tests do not collide."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
