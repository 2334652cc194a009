"""Bare repositories, served by git's HTTP backend; the caller authorizes requests."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

WORKFLOWS = ".github/workflows"
# Runs in git's hook: the pusher sees the server's response.
TELL = """\
import sys, urllib.request
name = sys.argv[2]
request = urllib.request.Request(f"{sys.argv[1]}/_sandbox/pushed/{name}", sys.stdin.buffer.read())
print(urllib.request.urlopen(request, timeout=30).read().decode(), end="")
"""
SETTINGS = {
    "http.receivepack": "true",
    "uploadpack.allowAnySHA1InWant": "true",
    "receive.denyDeleteCurrent": "ignore",
}


class NoSuchCommit(Exception):
    """A ref that is not a commit in the repository."""


@dataclass(frozen=True)
class Push:
    """An updated branch or tag. sha: empty if it was deleted."""

    ref: str
    before: str
    sha: str

    @classmethod
    def of(cls, line: str) -> Push:
        """Parse a line of git's post-receive hook."""
        before, after, ref = line.split()
        return cls(ref, before, "" if set(after) == {"0"} else after)


class Repositories:
    """The repositories in a folder, created on first use. url: this server's URL."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder / "repositories"
        self._hooks = folder / "hooks"
        self._url = url

    def start(self) -> None:
        """Create the folders and the hook shared by all repositories."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._hooks.mkdir(exist_ok=True)
        tell, hook = self._hooks / "tell.py", self._hooks / "post-receive"
        tell.write_text(TELL)
        command = shlex.join([sys.executable, "-I", str(tell), self._url])
        hook.write_text(f'#!/bin/sh\nexec {command} "$DAYBOOK_REPOSITORY"\n')
        hook.chmod(0o700)

    def names(self) -> list[str]:
        """Return the names of all repositories: ["daybook/hello"]."""
        return sorted(str(p.relative_to(self._folder))[:-4] for p in self._folder.glob("*/*.git"))

    def path(self, name: str) -> Path:
        """Return a repository's path; create it if it is missing."""
        path = self._folder / f"{name}.git"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            git("init", "--quiet", "--bare", "--initial-branch=main", str(path))
            for key, value in {**SETTINGS, "core.hooksPath": str(self._hooks)}.items():
                git("--git-dir", str(path), "config", key, value)
        return path

    def commit(self, name: str, ref: str) -> str:
        """Return the commit of a branch, tag or commit id."""
        try:
            sha = self._git(name, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        except subprocess.CalledProcessError as error:
            raise NoSuchCommit(f"{ref} is not a commit in {name}") from error
        return sha.decode().strip()

    def message(self, name: str, sha: str) -> str:
        """Return the first line of a commit message."""
        return self._git(name, "log", "-1", "--format=%s", sha).decode().strip()

    def changed(self, name: str, push: Push) -> list[str]:
        """Return the files that a push changed; all files for a new branch."""
        if set(push.before) == {"0"}:
            listed = self._git(name, "ls-tree", "-r", "--name-only", push.sha)
        else:
            listed = self._git(name, "diff", "--name-only", push.before, push.sha)
        return listed.decode().splitlines()

    def workflows(self, name: str, sha: str) -> dict[str, str]:
        """Return the workflow files of a commit by path."""
        listed = self._git(name, "ls-tree", "--name-only", sha, f"{WORKFLOWS}/").decode()
        paths = [path for path in listed.splitlines() if path.endswith((".yml", ".yaml"))]
        return {path: self._git(name, "show", f"{sha}:{path}").decode() for path in paths}

    def tarball(self, name: str, ref: str) -> bytes:
        """Return a commit's files in one folder, as a .tar.gz."""
        sha = self.commit(name, ref)
        prefix = f"{name.replace('/', '-')}-{sha[:7]}/"
        return self._git(name, "archive", "--format=tar.gz", f"--prefix={prefix}", sha)

    def backend(self, name: str, request: Mapping[str, str], body: Iterable[bytes]) -> bytes:
        """Answer a request of git's HTTP protocol. request: CGI variables."""
        self.path(name)
        env = _env() | dict(request) | {"DAYBOOK_REPOSITORY": name, "GIT_HTTP_EXPORT_ALL": "1"}
        with subprocess.Popen(
            ["git", "http-backend"],
            env=env | {"GIT_PROJECT_ROOT": str(self._folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            return process.communicate(b"".join(body))[0]

    def _git(self, name: str, *arguments: str) -> bytes:
        return git("--git-dir", str(self.path(name)), *arguments)


def git(*arguments: str) -> bytes:
    """Run git without user or system configuration and return its output."""
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, env=_env(), stdin=subprocess.DEVNULL
    ).stdout


def _env() -> dict[str, str]:
    kept = {"PATH": os.environ.get("PATH", os.defpath)}
    return kept | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
