"""Tell whether a run still lives: its kernel and every tool of it hold a lock on one file.

    life = liveness.hold(root / "runs" / "staging" / ".alive" / run)
    process.run(["terraform", "plan"], life=life)   # the tool holds it too
    liveness.is_over(life.proof)                    # False, in any process of this machine
    life.end()

The kernel of the operating system drops the lock when the last of them has ended, however it
ended. A process id proves less: it is used again, and it means nothing in another container.
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
"""In `runs/<env>/`: one file for each run that has not ended properly yet."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Life:
    """A held lock. fd: what tools inherit, so that they hold it as well."""

    path: Path
    fd: int

    @property
    def proof(self) -> dict[str, str]:
        """Return what `is_over` needs, in this process or another one of this machine."""
        found = os.fstat(self.fd)
        inode = f"{found.st_dev}:{found.st_ino}"
        return {"boot": _boot(), "file": str(self.path), "inode": inode}

    def end(self, *, keep: bool = False) -> None:
        """Let go; a second call does nothing.

        The run is over by now: a file that the disk does not remove is one that nobody holds.
        keep: leave the file, which proves that the run is over to who finds its lock.
        """
        with suppress(OSError):
            if not keep:
                self.path.unlink(missing_ok=True)
        with suppress(OSError):
            os.close(self.fd)


def file_of(run_folder: Path) -> Path:
    """Return the file that a run holds while it lives."""
    return run_folder.parent / FOLDER / run_folder.name


def hold(path: Path) -> Life:
    """Begin to live."""
    private_files.make_folder(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return Life(path, fd)


def is_over(proof: Mapping[str, str]) -> bool:
    """Tell whether a run has ended for certain: on this boot of this machine, by this very file.

    False where nothing can be proven: on another machine, or when the file is gone.
    """
    boot, file, inode = (str(proof.get(name, "")) for name in ("boot", "file", "inode"))
    if not boot or boot != _boot() or not Path(file).is_absolute():
        return False
    with _opened(Path(file)) as fd:
        if fd is None:
            return False
        found = os.fstat(fd)
        return f"{found.st_dev}:{found.st_ino}" == inode and _is_free(fd)


def is_here(proof: Mapping[str, str]) -> bool:
    """Tell whether a run is one of this machine, since it was last started."""
    return bool(proof.get("boot")) and proof.get("boot") == _boot()


def lives(path: Path) -> bool:
    """Tell whether somebody holds this file."""
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
    """Tell whether nobody holds the file; a shared lock, so that two who ask do not meet."""
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
