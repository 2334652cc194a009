"""journal.jsonl: the events of a run, one per line, each with the hash of the line before.

    journal = Journal.create(folder, {"step": "provision", "environment": "staging"})
    journal.write("phase", name="plan", state="started")
    journal.close("succeeded")

Kinds: header · phase (name, state) · check (checks) · plan (digest, changes) · displayed (digest,
summary) · approval (digest, how, by) · apply (digest, written before the first change) · change ·
outputs (values) · versions · cell_start · output · cell_end · tool_start · tool_end · status ·
note · end. Except for an `output`, a line is on the disk when `write` returns. model.py defines the
fields of each kind. For a reader the journal ends before the first line that does not match them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daybook import private_files
from daybook.errors import CommandFailed
from daybook.record import model
from daybook.record.redact import Redactor

NAME = "journal.jsonl"
FORMAT = 2
"""The format that this version writes, as named in the header."""
FIRST = "0" * 64
"""The previous hash of the first line."""
STATUSES = ("running", "waiting", "succeeded", "failed", "interrupted")
MAX_BYTES = 128 << 20
OUTPUT_BYTES = 96 << 20
"""The journal drops outputs beyond this size: a journal larger than MAX_BYTES cannot be read."""
_RESERVE = ".reserve"
_RESERVE_BYTES = 256 * 1024
_STARTS = {("phase", "started"), ("tool_start", None)}


def now() -> str:
    """Return the current time in the format of records: `2026-11-23T18:45:00.123Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """Append events to a run's journal, from any thread, with secrets redacted.

    When the disk is full, a reserved file is deleted to make room for the last lines, which say
    how the run ended. From then on outputs are dropped, and starting a phase or a tool raises
    CommandFailed.
    """

    def __init__(self, path: Path, redactor: Redactor, *, seq: int = 0, prev: str = FIRST) -> None:
        self.path = path
        self.redactor = redactor
        self.is_closed = False
        self.stopped = ""
        self._seq, self._prev = seq, prev
        self._lock = threading.RLock()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    @classmethod
    def create(
        cls, folder: Path, header: Mapping[str, Any], redactor: Redactor | None = None
    ) -> Journal:
        """Start the journal of a new run in its folder."""
        private_files.make_folder(folder)
        _reserve(folder / _RESERVE)
        journal = cls(folder / NAME, redactor or Redactor())
        journal.write("header", **header)
        if journal.stopped:
            journal.release()
            raise OSError(errno.ENOSPC, journal.stopped, str(folder))
        private_files.sync_folder(folder)
        return journal

    @classmethod
    def resume(cls, path: Path, redactor: Redactor | None = None) -> Journal:
        """Append to a journal whose writer has exited; an incomplete last line becomes a note."""
        entries = read(path)
        raw = private_files.read(path, MAX_BYTES)
        complete = raw[: len(raw) - len(entries.cut)]
        if entries.cut:
            os.truncate(path, len(complete))
        prev = _hash(complete.splitlines()[-1]) if complete else FIRST
        journal = cls(path, redactor or Redactor(), seq=len(entries.lines), prev=prev)
        if entries.cut:
            journal.write("note", what="cut", fragment=entries.cut.decode("utf-8", "replace"))
        return journal

    def write(self, kind: str, **data: Any) -> None:
        """Append one event; unless it is an `output`, it is on the disk when this returns."""
        with self._lock:
            if self.is_closed or (self.stopped and kind == "output"):
                return
            if self.stopped and (kind, data.get("state")) in _STARTS:
                raise self._cannot_write()
            try:
                self._append(kind, data)
            except OSError as err:
                if self.stopped:
                    raise self._cannot_write() from err
                self.stop(err)
                if kind != "output":
                    self._append_to_reserve(kind, data)

    def stop(self, err: OSError) -> None:
        """Drop further outputs, because the journal or an attachment cannot be written."""
        with self._lock:
            if not self.stopped:
                self.stopped = err.strerror or str(err)
                self.path.with_name(_RESERVE).unlink(missing_ok=True)

    def close(self, status: str, reason: str = "") -> None:
        """Write the end line; later events are dropped."""
        with self._lock:
            if self.is_closed:
                return
            try:
                self.write("end", status=status, **({"reason": reason} if reason else {}))
            finally:
                self.release()

    def release(self) -> None:
        """Close the file without an end line."""
        with self._lock:
            if not self.is_closed:
                self.is_closed = True
                os.close(self._fd)
                self.path.with_name(_RESERVE).unlink(missing_ok=True)

    def _append(self, kind: str, data: Mapping[str, Any]) -> None:
        entry = {"seq": self._seq, "time": now(), "kind": kind}
        entry |= self.redactor.clean_value(data)
        line = encode(entry | {"prev": self._prev})
        if _decode(line + b"\n") is None:  # Readers would take this line for the journal's end.
            note = {"what": "no entry", "text": line.decode(), "prev": self._prev}
            line = encode({"seq": self._seq, "time": now(), "kind": "note"} | note)
        if kind == "output" and self._size + len(line) > OUTPUT_BYTES:
            raise OSError(errno.EFBIG, f"more than {OUTPUT_BYTES >> 20} MiB of outputs")
        try:
            _write_all(self._fd, line + b"\n")
            if kind != "output":
                os.fsync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._seq, self._prev, self._size = self._seq + 1, _hash(line), self._size + len(line) + 1

    def _append_to_reserve(self, kind: str, data: Mapping[str, Any]) -> None:
        if (kind, data.get("state")) in _STARTS:
            raise self._cannot_write()
        try:
            self._append("note", {"what": "stopped", "reason": self.stopped})
            self._append(kind, data)
        except OSError as err:
            raise self._cannot_write() from err

    def _cannot_write(self) -> CommandFailed:
        return CommandFailed(
            "The run's journal cannot be written.",
            expected="free disk space",
            observed=f"{self.path.name}: {self.stopped}",
            changed="Nothing further was started.",
            next="free some disk space, then run the step again",
        )


@dataclass(frozen=True)
class Entries:
    """The entries of a journal. cut: the bytes after the last complete one."""

    lines: tuple[dict[str, Any], ...]
    cut: bytes = b""

    def of(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of these kinds, in order."""
        return (line for line in self.lines if line["kind"] in kinds)

    @property
    def header(self) -> dict[str, Any]:
        """Return the header, or {} if it is missing."""
        return self.lines[0] if self.lines and self.lines[0]["kind"] == "header" else {}

    @property
    def end(self) -> dict[str, Any] | None:
        """Return the end line of a closed journal, None for an open one."""
        return self.lines[-1] if self.lines and self.lines[-1]["kind"] == "end" else None


def read(path: Path) -> Entries:
    """Read a journal up to the first line that is not a valid entry."""
    lines, position = [], 0
    raw = private_files.read(path, MAX_BYTES)
    for line in raw.splitlines(keepends=True):
        entry = _decode(line)
        if entry is None:
            break
        lines.append(entry)
        position += len(line)
    return Entries(tuple(lines), raw[position:])


def verify(path: Path) -> tuple[str, ...]:
    """Return the problems of a closed journal, by line; () if it is intact."""
    raw = private_files.read(path, MAX_BYTES)
    if not raw:
        return ("line 1: missing",)
    prev, kind = FIRST, ""
    for number, line in enumerate(raw.splitlines(keepends=True), start=1):
        entry = _decode(line)
        if entry is None:
            return (f"line {number}: not a complete entry",)
        if entry.get("prev") != prev:
            return (f"line {number}: does not follow line {number - 1}",)
        if entry["seq"] != number - 1 or (number == 1) != (entry["kind"] == "header"):
            return (f"line {number}: out of order",)
        if kind == "end":
            return (f"line {number}: written after the end",)
        prev, kind = _hash(line.rstrip(b"\n")), entry["kind"]
    return () if kind == "end" else (f"line {number}: the end is missing",)


def rewrite(path: Path, redactor: Redactor) -> bool:
    """Redact secrets in lines already written and rebuild the chain; return whether any was found.

    Needed for a value that was registered after it had been printed, while the run is open.
    """
    entries = read(path)
    before = entries.lines
    frames = [{name: entry[name] for name in ("seq", "time", "kind")} for entry in before]
    after = [redactor.clean_value(e) | frame for e, frame in zip(before, frames, strict=True)]
    if after == list(before):
        return False
    prev, lines = FIRST, []
    for entry in after:
        line = encode(entry | {"prev": prev})
        lines.append(line + b"\n")
        prev = _hash(line)
    replace(path, b"".join(lines) + entries.cut)
    return True


def replace(path: Path, content: bytes) -> None:
    """Write a file atomically and durably, readable by its owner only."""
    scratch = path.with_name(f".{path.name}.new")
    try:
        private_files.write(scratch, content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    private_files.sync_folder(path.parent)


def is_empty(path: Path) -> bool:
    """Tell whether a journal has no complete line: its run was killed before it started."""
    return not path.exists() or b"\n" not in private_files.read(path, MAX_BYTES)


def encode(entry: Mapping[str, Any]) -> bytes:
    """Return JSON on one line; a lone surrogate becomes a JSON escape."""
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "backslashreplace")


def _decode(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line, None if it is incomplete or not an entry."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = model.decode(line)
    except ValueError:
        return None
    return entry if model.is_entry(entry) else None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _reserve(path: Path) -> None:
    """Reserve the disk space that the last lines need when the disk is full."""
    with open(path, "wb", opener=private_files.opener) as file:
        file.write(b"\0" * _RESERVE_BYTES)
        file.flush()
        os.fsync(file.fileno())
