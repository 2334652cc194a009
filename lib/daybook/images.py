"""Build and push the application's image with the docker command line."""

from __future__ import annotations

import base64
import gzip
import hashlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from daybook import process

CARRIED = {"daybook.compose": "compose.yaml", "daybook.caddyfile": "Caddyfile"}
"""Labels that carry a file of the application, so that an image's digest covers it."""


def labels(folder: Path, *, version: str, commit: str) -> dict[str, str]:
    """Return the labels that make an image a release of its own: no host needs another file."""
    said = {
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": commit,
    }
    files = {label: folder / name for label, name in CARRIED.items()}
    return said | {label: packed(path) for label, path in files.items() if path.is_file()}


def packed(path: Path) -> str:
    """Return a file as a label holds it: `gzip -9n < FILE | base64 -w0`."""
    return base64.b64encode(gzip.compress(path.read_bytes(), 9, mtime=0)).decode()


def build_command(
    context: Path, tags: Sequence[str], labels: Mapping[str, str] | None = None
) -> list[str]:
    """Return the command that builds a folder's image under some tags."""
    names = [word for tag in tags for word in ("--tag", tag)]
    said = [word for key, value in (labels or {}).items() for word in ("--label", f"{key}={value}")]
    return ["docker", "build", *names, *said, str(context)]


def push_command(tag: str) -> list[str]:
    """Return the command that pushes one tag."""
    return ["docker", "push", tag]


def login_command(registry: str, user: str) -> list[str]:
    """Return the command that logs in; it reads the password from stdin."""
    return ["docker", "login", "--username", user, "--password-stdin", registry]


@contextmanager
def login(
    registry: str, user: str, password: str, *, env: Mapping[str, str], start: process.Start
) -> Iterator[dict[str, str]]:
    """Log in for as long as the context lasts; yields the environment to push with.

    Docker keeps the password in its configuration, so that folder is made for this and removed.
    """
    with tempfile.TemporaryDirectory(prefix="daybook-docker-") as config:
        logged_in = {**env, "DOCKER_CONFIG": config}
        start(
            login_command(registry, user),
            env=logged_in,
            stdin=password.encode(),
            private=True,
            timeout_s=60,
        )
        yield logged_in


def builder_environment(env: Mapping[str, str], start: process.Start) -> dict[str, str]:
    """Return the environment to build in: without BuildKit where docker has no buildx."""
    probe = start(["docker", "buildx", "version"], env=env, check=False, timeout_s=30)
    return dict(env) if probe.returncode == 0 else {**env, "DOCKER_BUILDKIT": "0"}


def version_of(root: Path, folder: str, *, env: Mapping[str, str], start: process.Start) -> str:
    """Return the last commit that touched a folder; with uncommitted changes, a hash besides."""
    git = ["git", "-C", str(root)]
    last = start(
        [*git, "log", "-1", "--format=%h", "--abbrev=12", "--", folder], env=env, check=False
    )
    if last.returncode != 0 or not last.tail:
        return f"tree-{tree_hash(root / folder)[:12]}"
    changed = start([*git, "status", "--porcelain", "--", folder], env=env)
    return last.tail[0] + (f"-{tree_hash(root / folder)[:8]}" if changed.tail else "")


def commit_of(root: Path, folder: str, *, env: Mapping[str, str], start: process.Start) -> str:
    """Return the last commit that touched a folder; with uncommitted changes, a hash instead."""
    git = ["git", "-C", str(root)]
    last = start([*git, "log", "-1", "--format=%H", "--", folder], env=env, check=False)
    changed = start([*git, "status", "--porcelain", "--", folder], env=env, check=False)
    is_clean = last.returncode == 0 and last.tail and not changed.tail
    return last.tail[0] if is_clean else f"{tree_hash(root / folder)}-dirty"


def tree_hash(folder: Path, *, without: Collection[str] = ()) -> str:
    """Return the SHA-256 over the names and contents of a folder's files.

    without: folders, by name, whose files do not count.
    """
    left_out = {"__pycache__", *without}
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not left_out & set(path.relative_to(folder).parts):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()
