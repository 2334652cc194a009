"""Who runs this, from which commit, with which versions: what a record's header says."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("daybook", "ansible-core", "boto3", "ipykernel", "papermill", "jupyterlab")
_CI_URLS = ("BUILD_URL", "CI_JOB_URL", "CIRCLE_BUILD_URL")


def header(root: Path) -> dict[str, Any]:
    """Return operator, host, CI, git, kernel and versions, ready for a journal's header."""
    return {
        "operator": operator(root),
        "host": {"name": socket.gethostname(), "system": platform.platform(terse=True)},
        "ci": ci_url(os.environ),
        "git": git(root),
        "kernel": kernel(),
        "versions": versions(),
    }


def operator(root: Path) -> dict[str, str]:
    """Return the OS user and the git identity."""
    name, email = (_git(root, "config", key) for key in ("user.name", "user.email"))
    sudo = {"sudo_user": os.environ["SUDO_USER"]} if os.environ.get("SUDO_USER") else {}
    return {"user": getpass.getuser(), "name": name, "email": email, **sudo}


def git(root: Path) -> dict[str, Any]:
    """Return commit, branch and the files that differ from it."""
    changed = _git(root, "status", "--porcelain", "--untracked-files=all").splitlines()
    return {
        "commit": _git(root, "rev-parse", "HEAD"),
        "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": [line.strip() for line in changed[:100]],
    }


def kernel() -> dict[str, Any]:
    """Return what tells later whether this process is still the same one."""
    process = psutil.Process()
    return {"pid": process.pid, "started": process.create_time(), "host": socket.gethostname()}


def is_alive(kernel: Mapping[str, Any]) -> bool:
    """Tell whether the kernel of a header still runs; True for one on another host."""
    if kernel.get("host", socket.gethostname()) != socket.gethostname():
        return True
    try:
        process = psutil.Process(kernel["pid"])
        is_same = abs(process.create_time() - kernel["started"]) < 2
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError):
        return False


def ci_url(environ: Mapping[str, str]) -> str | None:
    """Return the address of the CI job that this runs in."""
    if "GITHUB_RUN_ID" in environ:
        server, repository = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
        return f"{server}/{repository}/actions/runs/{environ['GITHUB_RUN_ID']}"
    return next((environ[name] for name in _CI_URLS if name in environ), None)


def versions() -> dict[str, str]:
    """Return the versions of Python, its packages that matter here, and the tools on PATH."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commands = {"git": ["git", "--version"], "ssh": ["ssh", "-V"]}
    commands["docker"] = ["docker", "--version"]
    return found | {name: said for name, args in commands.items() if (said := _version(args))}


def _version(args: list[str]) -> str:
    if not shutil.which(args[0]):
        return ""
    done = subprocess.run(args, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = re.search(r"\d+\.[\w.]+", done.stdout + done.stderr)
    return found.group() if found else ""


def _git(root: Path, *args: str) -> str:
    """Ask git; "" where there is no repository or no git."""
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(root), *args]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip("\n") if done.returncode == 0 else ""
