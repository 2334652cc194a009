"""Build and push the application's image with the docker command line."""

from __future__ import annotations

import base64
import gzip
import hashlib
import shlex
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from daybook import git, process

CARRIED = {"daybook.compose": "compose.yaml", "daybook.caddyfile": "Caddyfile"}
"""Labels that contain a file of the application, so that the image's digest covers it."""


def labels(folder: Path, *, version: str, commit: str) -> dict[str, str]:
    """Return the labels that make an image self-contained: a release needs no other file."""
    versions = {
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": commit,
    }
    files = {label: folder / name for label, name in CARRIED.items()}
    return versions | {label: packed(path) for label, path in files.items() if path.is_file()}


def packed(path: Path) -> str:
    """Return a file's content as a label contains it: `gzip -9n < FILE | base64 -w0`."""
    return base64.b64encode(gzip.compress(path.read_bytes(), 9, mtime=0)).decode()


def build_command(
    context: Path, tags: Sequence[str], labels: Mapping[str, str] | None = None
) -> list[str]:
    """Return the command that builds the image of a folder with some tags."""
    names = [word for tag in tags for word in ("--tag", tag)]
    label_options = [
        word for key, value in (labels or {}).items() for word in ("--label", f"{key}={value}")
    ]
    return ["docker", "build", *names, *label_options, str(context)]


def typed_build(command: Sequence[str], context: Path) -> str:
    """Return the build's command as an operator types it: with files instead of their content."""
    return " ".join(_typed(word, context) for word in command)


def _typed(word: str, context: Path) -> str:
    label = word.partition("=")[0]
    if label not in CARRIED:
        return shlex.quote(word)
    path = shlex.quote(str(context / CARRIED[label]))
    return f'"{label}=$(gzip -9n < {path} | base64 -w0)"'


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
    """Log in for the duration of the context; yields the environment for the push.

    Docker stores the password in its configuration folder; a temporary one is used and removed.
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
    """Return the environment for a build; without the buildx plugin, it disables BuildKit."""
    probe = start(["docker", "buildx", "version"], env=env, check=False, timeout_s=30)
    return dict(env) if probe.returncode == 0 else {**env, "DOCKER_BUILDKIT": "0"}


def version_of(root: Path, folder: str) -> str:
    """Return the last commit of a folder, 12 digits; with uncommitted changes, a hash is added."""
    commit = git.last_commit(root, folder)
    if not commit:
        return f"tree-{tree_hash(root / folder)[:12]}"
    return commit[:12] + ("" if git.is_clean(root, folder) else f"-{tree_hash(root / folder)[:8]}")


def commit_of(root: Path, folder: str) -> str:
    """Return the last commit of a folder; with uncommitted changes, `HASH-dirty` instead."""
    commit = git.last_commit(root, folder)
    is_clean = commit and git.is_clean(root, folder)
    return commit if is_clean else f"{tree_hash(root / folder)}-dirty"


def tree_hash(folder: Path, *, without: Collection[str] = ()) -> str:
    """Return the SHA-256 over the names and contents of a folder's files.

    without: names of folders to ignore.
    """
    ignored = {"__pycache__", *without}
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not ignored & set(path.relative_to(folder).parts):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()
