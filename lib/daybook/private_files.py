"""Make files and folders that nobody else on this machine may read, whatever the umask is.

And read them as what anybody may have put there: never a FIFO, a device or a file without an end.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class NoFile(OSError):
    """What has a file's name is none that can be read: no trouble of the disk or the system."""


def opener(path: str, flags: int) -> int:
    """Open a file for `open(…, opener=private_files.opener)`; one that it makes is its owner's."""
    return os.open(path, flags, 0o600)


def write(path: Path, content: bytes) -> None:
    """Write a whole file, for its owner alone; it is on the disk when this returns."""
    with open(path, "wb", opener=opener) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put a folder's list of files on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file to read it; NoFile for anything else, without waiting for a writer."""
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
    """Return the content of a regular file that is no link; NoFile for anything else, or larger."""
    with open_regular(path, follow=False) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        limit = f"larger than {max_bytes >> 10:,} KiB, the most that is read"
        raise NoFile(errno.EINVAL, limit, str(path))
    return content


def make_folder(path: Path, mode: int = 0o700) -> Path:
    """Make a folder, and take away what `mode` does not grant from one that is there."""
    path.mkdir(parents=True, exist_ok=True)
    found = path.stat().st_mode & 0o777
    if found & ~mode:
        # One that belongs to somebody else is theirs to close.
        with suppress(PermissionError):
            path.chmod(found & mode)
    return path
