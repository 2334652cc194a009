"""Make files and folders that nobody else on this machine may read, whatever the umask is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def opener(path: str, flags: int) -> int:
    """Open a file for `open(…, opener=private_files.opener)`; one that it makes is its owner's."""
    return os.open(path, flags, 0o600)


def write(path: Path, content: bytes) -> None:
    """Write a whole file, for its owner alone."""
    with open(path, "wb", opener=opener) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)


def make_folder(path: Path, mode: int = 0o700) -> Path:
    """Make a folder, and take away what `mode` does not grant from one that is there."""
    path.mkdir(parents=True, exist_ok=True)
    found = path.stat().st_mode & 0o777
    if found & ~mode:
        # One that belongs to somebody else is theirs to close.
        with suppress(PermissionError):
            path.chmod(found & mode)
    return path
