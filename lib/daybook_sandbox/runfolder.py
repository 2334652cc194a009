"""The folder of the sandbox's sockets: in its own folder, or in /tmp if that path is too long."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from daybook.errors import PreflightFailed
from daybook_sandbox.state import Home

# unix(7): a socket path has 108 bytes, including the terminating null byte.
SOCKET_PATH_MAX = 107
LONGEST_NAME = "registry.sock"


def run_folder(home: Home) -> Path:
    """Return the folder for sockets, private to this user; create it if it is missing."""
    folder = _path(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PreflightFailed(
            f"{folder} belongs to another user.",
            expected="a folder of this user for the sandbox's sockets",
            next=f"remove {folder}, then daybook sandbox up",
        )
    return folder


def remove_run_folder(home: Home) -> None:
    """Remove the folder and the sockets in it."""
    shutil.rmtree(_path(home), ignore_errors=True)


def _path(home: Home) -> Path:
    inside = home.folder / "run"
    if len(os.fsencode(inside / LONGEST_NAME)) <= SOCKET_PATH_MAX:
        return inside
    key = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:12]
    return Path("/tmp") / f"daybook-{os.getuid()}-{key}"
