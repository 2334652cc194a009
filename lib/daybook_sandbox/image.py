"""The images for the sandbox's machines and tools: built once, then kept by the engine."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path

from docker import DockerClient
from docker.errors import APIError, ImageNotFound

from daybook import process
from daybook.errors import CommandFailed, PreflightFailed
from daybook_sandbox.state import PREFIX

BASE = "debian:trixie-slim"
SUITE = "trixie"
PULL_ANSWERS_S = 10
LAST_LINES = 8
OnLine = Callable[[str], None]


def machine() -> str:
    """Return the name of the machine image; the tag depends on the build's sources."""
    return f"{PREFIX}/machine:{_digest()}"


def tools() -> str:
    """Return the name of the image that contains a Docker engine and a registry."""
    return f"{PREFIX}/tools:{_digest()}"


def ensure(engine: DockerClient, on_line: OnLine) -> None:
    """Build missing images; the first build takes a minute or two."""
    if not _has(engine, BASE):
        on_line("Base image: Debian 13")
        _pull_base(engine) or _bootstrap_base(engine, on_line)
    for name in (machine(), tools()):
        if not _has(engine, name):
            on_line(f"Building {name.partition(':')[0]} (about a minute, only once)")
            _build(engine, name, on_line)
            _remove_older(engine, name)


def any_tools(engine: DockerClient) -> str | None:
    """Return an existing tools image of this or an earlier version."""
    images = engine.images.list(name=f"{PREFIX}/tools")
    return images[0].tags[0] if images else None


def _has(engine: DockerClient, name: str) -> bool:
    try:
        engine.images.get(name)
    except ImageNotFound:
        return False
    return True


def _pull_base(engine: DockerClient) -> bool:
    """Pull the base image if a registry answers soon; offline, name lookups may take minutes."""
    answered, outcome = threading.Event(), []

    def pull() -> None:
        try:
            for line in engine.api.pull(BASE, stream=True, decode=True):
                answered.set()
                outcome.append(line.get("error"))
        except APIError as error:
            outcome.append(str(error))
        answered.set()

    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    if not answered.wait(PULL_ANSWERS_S):
        return False
    thread.join()
    return not any(outcome) and _has(engine, BASE)


def _bootstrap_base(engine: DockerClient, on_line: OnLine) -> None:
    """Build the base image from Debian's packages when no registry is reachable."""
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
        raise PreflightFailed(
            "The sandbox has no base image, and no registry is reachable.",
            expected=f"the image {BASE}, a reachable registry, or debootstrap on this computer",
            next="apt-get install debootstrap (as root), then daybook sandbox up",
        )
    with tempfile.TemporaryDirectory(prefix="daybook-") as folder:
        rootfs = Path(folder) / "rootfs"
        mirror = _mirror()
        command = [*root, "debootstrap", "--variant=minbase", SUITE, str(rootfs)]
        process.run(
            [*command, *([mirror] if mirror else [])],
            env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            on_line=lambda line: on_line(f"  {line.removeprefix('I: ')}"),
        )
        try:
            _import(engine, rootfs, root)
        finally:
            process.run([*root, "rm", "-rf", "--one-file-system", str(rootfs)])


def _import(engine: DockerClient, rootfs: Path, root: list[str]) -> None:
    excluded = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./dev/*")
    command = [*root, "tar", "-C", str(rootfs), *(f"--exclude={path}" for path in excluded)]
    with subprocess.Popen([*command, "-c", "."], stdout=subprocess.PIPE) as tar:
        repository, label = BASE.split(":")
        engine.api.import_image_from_stream(tar.stdout, repository=repository, tag=label)
    if tar.returncode:
        raise CommandFailed("tar could not read the base system", changed="")


def _mirror() -> str | None:
    """Return this computer's Debian mirror; None for debootstrap's default."""
    if not shutil.which("apt-get"):
        return None
    query = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"]
    targets = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    lines = (line.split() for line in targets.splitlines())
    return next((uri for label, uri in lines if label == "Debian"), None)


def _build(engine: DockerClient, name: str, on_line: OnLine) -> None:
    """Build with the engine's classic builder: BuildKit may be missing."""
    with closing(_context()) as context:
        lines = engine.api.build(
            fileobj=context,
            custom_context=True,
            tag=name,
            target=name.removeprefix(f"{PREFIX}/").partition(":")[0],
            rm=True,
            forcerm=True,
            decode=True,
        )
        last = deque(maxlen=LAST_LINES)
        for text, error in _texts(lines):
            if error:
                raise CommandFailed(
                    f"Building {name} failed: {error}",
                    details=last,
                    changed="",
                    next="run daybook sandbox up again; completed layers are kept",
                )
            last.append(text)
            on_line(f"  {text}")


def _remove_older(engine: DockerClient, name: str) -> None:
    """Remove images built by earlier versions of Daybook."""
    for image in engine.images.list(name=name.partition(":")[0]):
        for tag in set(image.tags) - {name}:
            # The engine refuses to remove an image used by another container.
            with suppress(APIError):
                engine.images.remove(tag)


def _texts(lines: Iterator[dict]) -> Iterator[tuple[str, str]]:
    for line in lines:
        for text in line.get("stream", "").splitlines():
            if text.strip():
                yield text.rstrip(), ""
        if "error" in line:
            yield "", line["error"]


def _sources() -> list[tuple[str, bytes]]:
    folder = files("daybook_sandbox") / "machine"
    return sorted((file.name, file.read_bytes()) for file in folder.iterdir() if file.is_file())


def _digest() -> str:
    content = b"".join(name.encode() + b"\0" + body + b"\0" for name, body in _sources())
    return hashlib.sha256(content).hexdigest()[:12]


def _context() -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in _sources():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(body), 0o644
            tar.addfile(info, io.BytesIO(body))
    buffer.seek(0)
    return buffer
