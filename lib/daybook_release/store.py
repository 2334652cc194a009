"""What the host keeps: releases, which of them serves, what is going on, and the lock.

/srv/APP/releases/ID/   release.json, compose.yaml, model.json, generated.json, site.caddy,
                        settings.json; environment.json (0600) while its slot runs or is kept
/srv/APP/current        a link to the one that serves
/srv/APP/state.json     what is going on; {} when nothing is
/srv/APP/maintenance    there while visitors are sent away
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daybook_release.errors import Locked

SERVING, REPLACED, FAILED, ROLLED_BACK = "serving", "replaced", "failed", "rolled back"
SERVED = (SERVING, REPLACED, ROLLED_BACK)
BUSY = "wait for it: sudo release status; or end it: sudo release stop"


@dataclass(frozen=True)
class Release:
    """One image with its compose file, settings and secrets' versions, and how it went.

    seconds: from the command until visitors had it, or its failure. again: each time that it was
    gone back to.
    """

    id: str
    image: str
    version: str
    commit: str
    by: str
    run: str
    at: str
    settings: str
    secrets: Mapping[str, int] = field(default_factory=dict)
    slot: str = ""
    port: int = 0
    seconds: float = 0.0
    result: str = ""
    error: str = ""
    again: tuple[Mapping[str, Any], ...] = ()

    def became(self, result: str, **changes: Any) -> Release:
        """Return it with another result."""
        return replace(self, result=result, **changes)


@dataclass(frozen=True)
class Holder:
    """The process that has the lock, as it says itself. started: see `stop.started`."""

    pid: int
    started: int
    verb: str


class Store:
    """The application's folder on this host."""

    def __init__(self, root: Path, lock: Path) -> None:
        self.root = root
        self.lock_path = lock

    def folder(self, id: str) -> Path:
        return self.root / "releases" / id

    def all(self) -> list[Release]:
        """Return every release, the newest first."""
        ids = sorted(path.parent.name for path in self.root.glob("releases/*/release.json"))
        return [self.read(id) for id in reversed(ids)]

    def read(self, id: str) -> Release:
        said = json.loads((self.folder(id) / "release.json").read_text())
        return Release(**{**said, "again": tuple(said["again"])})

    def find(self, id: str | None) -> Release | None:
        """Return a release that may not be there."""
        there = bool(id) and "/" not in id and (self.folder(id) / "release.json").is_file()
        return self.read(id) if there else None

    def write(self, release: Release) -> Release:
        """Keep a release as it is now."""
        self.put(release.id, "release.json", json.dumps(asdict(release), indent=1))
        return release

    def put(self, id: str, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of a release."""
        self.folder(id).mkdir(parents=True, exist_ok=True)
        write(self.folder(id) / name, text, mode)

    def text(self, id: str, name: str) -> str:
        """Return a file of a release."""
        return (self.folder(id) / name).read_text(encoding="utf-8")

    def forget(self, id: str) -> None:
        """Remove a release, and the one thing of it that may be secret first."""
        (self.folder(id) / "environment.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def environment(self, id: str) -> dict[str, str] | None:
        """Return a release's environment, None when it is not kept."""
        try:
            return json.loads(self.text(id, "environment.json"))
        except FileNotFoundError:
            return None

    def keep_environments(self, *ids: str) -> None:
        """Remove every environment but those of the releases whose slots are there."""
        for path in self.root.glob("releases/*/environment.json"):
            if path.parent.name not in ids:
                path.unlink()

    @property
    def current(self) -> Release | None:
        """Return the release that serves, or should."""
        link = self.root / "current"
        return self.read(Path(os.readlink(link)).name) if link.is_symlink() else None

    def make_current(self, id: str) -> None:
        """Let a release be the one that serves: the moment at which a release is done."""
        fresh = self.root / ".current.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("releases") / id)
        fresh.rename(self.root / "current")
        _sync(self.root)

    @property
    def state(self) -> dict[str, Any]:
        """Return what is going on; empty when nothing is."""
        try:
            return json.loads((self.root / "state.json").read_text())
        except FileNotFoundError:
            return {}

    def note(self, **state: Any) -> None:
        """Say what begins now, before it does; nothing at the end."""
        write(self.root / "state.json", json.dumps(state))

    @property
    def in_maintenance(self) -> bool:
        return (self.root / "maintenance").exists()

    def set_maintenance(self, on: bool) -> None:
        path = self.root / "maintenance"
        path.touch() if on else path.unlink(missing_ok=True)
        _sync(self.root)

    @contextmanager
    def locked(self, holder: Holder) -> Iterator[int]:
        """Hold the lock; yields its descriptor. Locked when another command has it."""
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise Locked(self._who_holds_it(), next=BUSY) from err
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Tell whether somebody holds the lock, without being in anybody's way.

        https://man7.org/linux/man-pages/man5/proc_locks.5.html
        """
        if not self.lock_path.exists():
            return False
        file = self.lock_path.stat()
        device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
        return f" {device}:{file.st_ino} " in Path("/proc/locks").read_text()

    def holder(self) -> Holder | None:
        """Return what the lock's last holder wrote; None when it wrote nothing."""
        try:
            return Holder(**json.loads(self.lock_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _who_holds_it(self) -> str:
        state, holder = self.state, self.holder()
        if not state:
            return f"release {holder.verb if holder else 'with another command'} is running."
        return f"{state['id']} is being released since {state['since']} by {state['by']}."


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all, so that it is there after a power cut."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.rename(path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file for good, so that it is gone after a power cut."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def utc(moment: float) -> str:
    """Return a moment as 2026-11-23T23:10:00Z."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_id(moment: float, image: str) -> str:
    """Return a release's id: 20261123T231000Z-0f1fb3d2."""
    digest = image.rpartition(":")[2]
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ-") + digest[:8]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
