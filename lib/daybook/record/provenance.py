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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from daybook import git as git_of
from daybook import reviews

_PACKAGES = ("daybook", "ansible-core", "boto3", "ipykernel", "papermill", "jupyterlab")
_COMMANDS = {
    "git": ("git", "--version"),
    "ssh": ("ssh", "-V"),
    "docker": ("docker", "--version"),
    "terraform": ("terraform", "version"),
}
_PROVIDER = re.compile(r'provider "[^/"]+/([^"]+)" \{\s+version\s+= "([^"]+)"')
_CI_URLS = ("BUILD_URL", "CI_JOB_URL", "CIRCLE_BUILD_URL")


def header(root: Path) -> dict[str, Any]:
    """Return operator, host, CI, git, kernel and versions, ready for a journal's header."""
    return {
        "operator": operator(root),
        "host": {"name": socket.gethostname(), "system": platform.platform(terse=True)},
        "ci": ci_url(os.environ),
        "git": git(root),
        "kernel": kernel(),
        "versions": versions(root),
    }


def operator(root: Path) -> dict[str, str]:
    """Return the OS user and the git identity."""
    said = _git(root, "config", "--get-regexp", r"^user\.(name|email)$").splitlines()
    identity = dict(line.partition(" ")[::2] for line in said)
    sudo = {"sudo_user": os.environ["SUDO_USER"]} if os.environ.get("SUDO_USER") else {}
    known = {name: identity.get(f"user.{name}", "") for name in ("name", "email")}
    return {"user": getpass.getuser(), **known, **sudo}


def person(root: Path) -> str:
    """Return who runs this in one line: `Ann Lee <ann@example.com>`, or the login name."""
    who = operator(root)
    named = " ".join(filter(None, (who["name"], who["email"] and f"<{who['email']}>")))
    return named or who["user"]


def git(root: Path) -> dict[str, Any]:
    """Return commit, branch and how files differ from it, a hundred at most.

    By their bytes, and as the preflight sees them: neither variables nor git's index have a say.
    """
    commit = git_of.head(root)
    changed = reviews.files_changed(root, commit) if commit else []
    return {"commit": commit, "branch": git_of.branch(root), "dirty": changed[:100]}


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


def versions(root: Path) -> dict[str, str]:
    """Return the versions of Python, packages that matter here, tools on PATH, and providers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    with ThreadPoolExecutor() as pool:
        said = pool.map(_version, _COMMANDS.values())
    found |= {name: version for name, version in zip(_COMMANDS, said, strict=True) if version}
    for lock in sorted(root.glob("terraform/*/.terraform.lock.hcl")):
        found |= dict(_PROVIDER.findall(lock.read_text(encoding="utf-8")))
    return found


def _version(args: tuple[str, ...]) -> str:
    if not shutil.which(args[0]):
        return ""
    env = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(args, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    found = re.search(r"[0-9]+\.[\w.]+", done.stdout + done.stderr)
    return found.group() if found else ""


def _git(root: Path, *args: str) -> str:
    """Ask git; "" where there is no repository or no git."""
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(root), *args]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip("\n") if done.returncode == 0 else ""
