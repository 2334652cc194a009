"""Where the sandbox's sockets are: in its folder, or beside it where that path is too long."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from daybook.errors import PreflightFailed
from daybook_sandbox.state import Home

# unix(7): a socket's path has 108 bytes, one of them the zero at the end.
SOCKET_PATH_MAX = 107
LONGEST_NAME = "registry.sock"


def run_folder(home: Home) -> Path:
    """Return the folder for sockets, made when it is not there and closed to other users."""
    folder = _path(home)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PreflightFailed(
            f"{folder} belongs to somebody else.",
            expected="a folder that the sandbox can keep its sockets in",
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
