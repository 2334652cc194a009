"""Collect the operator, host, commit and versions for the header of a record."""

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
from daybook.ui import formats

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
    """Return operator, host, CI, git, kernel and versions for a journal's header."""
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
    lines = _git(root, "config", "--get-regexp", r"^user\.(name|email)$").splitlines()
    config = dict(line.partition(" ")[::2] for line in lines)
    sudo = {"sudo_user": os.environ["SUDO_USER"]} if os.environ.get("SUDO_USER") else {}
    identity = {name: config.get(f"user.{name}", "") for name in ("name", "email")}
    return {"user": getpass.getuser(), **identity, **sudo}


def person(root: Path) -> str:
    """Return the operator as `Ann Lee <ann@example.com>`, or the user name."""
    return formats.person(operator(root))


def git(root: Path) -> dict[str, Any]:
    """Return commit, branch and at most 100 files that differ from the commit.

    Files are compared by content, as in the preflight; git's variables and index are ignored.
    """
    commit = git_of.head(root)
    changed = reviews.files_changed(root, commit) if commit else []
    return {"commit": commit, "branch": git_of.branch(root), "dirty": changed[:100]}


def kernel() -> dict[str, Any]:
    """Return the facts that identify this process later."""
    process = psutil.Process()
    return {"pid": process.pid, "started": process.create_time(), "host": socket.gethostname()}


def is_alive(kernel: Mapping[str, Any]) -> bool:
    """Tell whether the kernel of a header is running; True for a kernel on another host."""
    if kernel.get("host", socket.gethostname()) != socket.gethostname():
        return True
    try:
        process = psutil.Process(kernel["pid"])
        is_same = abs(process.create_time() - kernel["started"]) < 2
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, KeyError):
        return False


def ci_url(environ: Mapping[str, str]) -> str | None:
    """Return the URL of the CI job that runs this process, None outside CI."""
    if "GITHUB_RUN_ID" in environ:
        server, repository = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
        return f"{server}/{repository}/actions/runs/{environ['GITHUB_RUN_ID']}"
    return next((environ[name] for name in _CI_URLS if name in environ), None)


def versions(root: Path) -> dict[str, str]:
    """Return the versions of Python, relevant packages, tools on PATH, and providers."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    with ThreadPoolExecutor() as pool:
        tools = zip(_COMMANDS, pool.map(_version, _COMMANDS.values()), strict=True)
    versions |= {name: version for name, version in tools if version}
    for lock in sorted(root.glob("terraform/*/.terraform.lock.hcl")):
        versions |= dict(_PROVIDER.findall(lock.read_text(encoding="utf-8")))
    return versions


def _version(args: tuple[str, ...]) -> str:
    if not shutil.which(args[0]):
        return ""
    env = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(args, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    match = re.search(r"[0-9]+\.[\w.]+", done.stdout + done.stderr)
    return match.group() if match else ""


def _git(root: Path, *args: str) -> str:
    """Return the output of git, "" without git or a repository."""
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(root), *args]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout.strip("\n") if done.returncode == 0 else ""
