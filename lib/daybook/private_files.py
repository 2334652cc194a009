"""Create files and folders that only their owner can read, independent of the umask.

Files are read defensively, because anyone may have created them: no FIFO, device or endless file.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class NoFile(OSError):
    """The path is not a readable regular file; the disk and the system are fine."""


def opener(path: str, flags: int) -> int:
    """Open a file for `open(…, opener=private_files.opener)`; a new one gets mode 0600."""
    return os.open(path, flags, 0o600)


def write(path: Path, content: bytes) -> None:
    """Write a whole file with mode 0600, and sync it to the disk."""
    with open(path, "wb", opener=opener) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Sync a folder's directory entries to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; NoFile for anything else. Never blocks on a FIFO."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    if not follow and os.path.islink(path):
        raise NoFile(errno.ELOOP, "a symbolic link, not a regular file", str(path))
    try:
        fd = os.open(path, flags)
    except OSError as err:
        if err.errno != errno.ENXIO:  # A socket.
            raise
        raise NoFile(err.errno, "not a regular file", str(path)) from err
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NoFile(errno.EINVAL, "not a regular file", str(path))
    return open(fd, "rb")


def read(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; NoFile if it is a link, another kind or larger."""
    with open_regular(path, follow=False) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        limit = f"larger than the limit of {max_bytes >> 10:,} KiB"
        raise NoFile(errno.EINVAL, limit, str(path))
    return content


def make_folder(path: Path, mode: int = 0o700) -> Path:
    """Create a folder, or remove permissions beyond `mode` from an existing one."""
    path.mkdir(parents=True, exist_ok=True)
    permissions = path.stat().st_mode & 0o777
    if permissions & ~mode:
        # Only the owner of a folder can change its mode.
        with suppress(PermissionError):
            path.chmod(permissions & mode)
    return path
