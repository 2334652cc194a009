"""The releases that the host stores, the current one, the state of a rollout, and the lock.

/srv/APP/releases/ID/   release.json, compose.yaml, model.json, generated.json, site.caddy,
                        settings.json; environment.json (0600) while its slot exists
/srv/APP/current        a link to the current release
/srv/APP/state.json     the rollout in progress; {} when there is none
/srv/APP/maintenance    exists while maintenance is on
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daybook_release.errors import Locked

SERVING, REPLACED, FAILED, ROLLED_BACK = "serving", "replaced", "failed", "rolled back"
SERVED = (SERVING, REPLACED, ROLLED_BACK)
BUSY = "wait until it ends: sudo release status; or end it: sudo release stop"


@dataclass(frozen=True)
class Release:
    """An image with its compose file, settings and the versions of its secrets, and the result.

    seconds: from the command until the switch or the failure. again: the rollbacks to it.
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

    def with_result(self, result: str, **changes: Any) -> Release:
        """Return a copy with another result."""
        return replace(self, result=result, **changes)


@dataclass(frozen=True)
class LockingProcess:
    """The process that holds the lock, as it recorded itself. started: see `stop.started`."""

    pid: int
    started: int
    verb: str


class ReleaseStore:
    """The application's folder on this host."""

    def __init__(self, root: Path, lock: Path) -> None:
        self.root = root
        self.lock_path = lock

    def folder(self, id: str) -> Path:
        return self.root / "releases" / id

    def unused_id(self, moment: float, image: str) -> str:
        """Return an id that no stored release has, at this second or the next free one."""
        while self.folder(id := new_id(moment, image)).exists():
            moment += 1
        return id

    def all(self) -> list[Release]:
        """Return all releases, newest first."""
        ids = sorted(path.parent.name for path in self.root.glob("releases/*/release.json"))
        return [self.read(id) for id in reversed(ids)]

    def read(self, id: str) -> Release:
        fields = json.loads((self.folder(id) / "release.json").read_text())
        return Release(**{**fields, "again": tuple(fields["again"])})

    def find(self, id: str | None) -> Release | None:
        """Return a release; None if it does not exist."""
        is_stored = bool(id) and "/" not in id and (self.folder(id) / "release.json").is_file()
        return self.read(id) if is_stored else None

    def write(self, release: Release) -> Release:
        """Store a release, replacing its earlier record."""
        self.put(release.id, "release.json", json.dumps(asdict(release), indent=1))
        return release

    def put(self, id: str, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file of a release."""
        self.folder(id).mkdir(parents=True, exist_ok=True)
        write(self.folder(id) / name, text, mode)

    def text(self, id: str, name: str) -> str:
        """Return a file of a release."""
        return (self.folder(id) / name).read_text(encoding="utf-8")

    def delete(self, id: str) -> None:
        """Delete a release, beginning with its only file that may hold secrets."""
        (self.folder(id) / "environment.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder(id), ignore_errors=True)

    def environment(self, id: str) -> dict[str, str] | None:
        """Return a release's environment; None if it is no longer stored."""
        try:
            return json.loads(self.text(id, "environment.json"))
        except FileNotFoundError:
            return None

    def delete_environments(self, *, except_for: Collection[str]) -> None:
        """Delete the environments of all releases except those with these ids."""
        for path in self.root.glob("releases/*/environment.json"):
            if path.parent.name not in except_for:
                path.unlink()

    @property
    def current(self) -> Release | None:
        """Return the release that serves, or should serve."""
        link = self.root / "current"
        return self.read(Path(os.readlink(link)).name) if link.is_symlink() else None

    def make_current(self, id: str) -> None:
        """Make a release the current one, atomically. This is the commit point of a rollout."""
        temporary = self.root / ".current.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("releases") / id)
        temporary.rename(self.root / "current")
        _sync(self.root)

    @property
    def state(self) -> dict[str, Any]:
        """Return the state of the rollout in progress; empty if there is none."""
        try:
            return json.loads((self.root / "state.json").read_text())
        except FileNotFoundError:
            return {}

    def save_state(self, **state: Any) -> None:
        """Save the state of the rollout before its next step begins."""
        write(self.root / "state.json", json.dumps(state))

    def clear_state(self) -> None:
        """Record that no rollout is in progress."""
        self.save_state()

    @property
    def in_maintenance(self) -> bool:
        return (self.root / "maintenance").exists()

    def set_maintenance(self, on: bool) -> None:
        path = self.root / "maintenance"
        path.touch() if on else path.unlink(missing_ok=True)
        _sync(self.root)

    @contextmanager
    def locked(self, holder: LockingProcess) -> Iterator[int]:
        """Hold the lock and yield its descriptor; raise Locked if another command holds it."""
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise Locked(self._lock_message(), next=BUSY) from err
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Tell whether a process holds the lock, without acquiring it.

        https://man7.org/linux/man-pages/man5/proc_locks.5.html
        """
        if not self.lock_path.exists():
            return False
        file = self.lock_path.stat()
        device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
        return f" {device}:{file.st_ino} " in Path("/proc/locks").read_text()

    def holder(self) -> LockingProcess | None:
        """Return the last holder of the lock, as recorded; None if nothing valid is recorded."""
        try:
            return LockingProcess(**json.loads(self.lock_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _lock_message(self) -> str:
        state, holder = self.state, self.holder()
        if not state:
            return f"`release {holder.verb}` is running." if holder else "release is running."
        started = f"started by {state['by']} at {state['since']}"
        return f"A release is in progress: {state['id']}, {started}."


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file atomically and durably: it survives a power failure."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file durably: it stays removed after a power failure."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def utc(moment: float) -> str:
    """Return a Unix time as 2026-11-23T23:10:00Z."""
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
