"""Record the outputs of cells, and move what exceeds the limits of the report to attachments."""

from __future__ import annotations

import base64
import itertools
import time
from io import FileIO
from pathlib import Path
from typing import Any

from daybook import private_files
from daybook.record.journal import Journal
from daybook.record.redact import Stream

CELL_LIMIT = 500_000
RUN_LIMIT = 5_000_000
"""Characters of a cell and of a run in the report; the rest goes to attachments."""
PART_LIMIT = 256_000
"""Characters of one MIME type of a display in the report."""
_ENTRY_CHARS = 65_536
_TAIL_CHARS = 4_096
_UPDATE_S = 1.0
_UPDATE_CHARS = 10_000
"""Characters of an updated display that are journaled per second."""
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/svg+xml": ".svg"}


class RunOutputs:
    """The state that the cells of a run share: journal, numbering, remaining characters."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.attachments = journal.path.parent / "attachments"
        self.remaining = RUN_LIMIT
        self.unattributed = CellOutputs(0, self)
        self._cells, self._files = itertools.count(1), itertools.count(1)

    def next_cell(self) -> int:
        """Return the number of the next execution."""
        return next(self._cells)

    def attach(self, mime: str, value: str) -> dict[str, Any]:
        """Write an output that is too large for the report to a file; return its journal facts."""
        if self.journal.stopped:
            return {"file": "no attachment", "mime": mime, "bytes": 0, "lost_bytes": len(value)}
        private_files.make_folder(self.attachments)
        path = self.attachments / f"output-{next(self._files):03}{_SUFFIXES.get(mime, '.txt')}"
        is_binary = mime in ("image/png", "image/jpeg")
        content = base64.b64decode(value) if is_binary else value.encode("utf-8", "replace")
        private_files.write(path, content)
        return {"file": f"attachments/{path.name}", "mime": mime, "bytes": len(content)}


class CellOutputs:
    """One execution of a cell: its streams, displays and overflow. Not thread-safe."""

    def __init__(self, number: int, outputs: RunOutputs) -> None:
        self.number = number
        self.started = time.monotonic()
        self.is_ended = False
        self._outputs = outputs
        self._streams: dict[str, Stream] = {}
        self._remaining = CELL_LIMIT
        self._overflow: OverflowLog | None = None
        self._written: dict[str, float] = {}
        self._charged: dict[str, int] = {}
        self._pending: dict[str, dict[str, Any]] = {}

    def stream(self, name: str, text: str) -> str:
        """Journal a piece of stdout or stderr; return the part that can be displayed already."""
        cleaner = self._streams.setdefault(name, self._outputs.journal.redactor.stream())
        clean = cleaner.feed(text)
        return self._write_stream(name, clean + cleaner.flush() if self.is_ended else clean)

    def output(self, kind: str, content: dict[str, Any]) -> None:
        """Journal a display, result or error; some states of a changing display, and its last."""
        if kind in ("display_data", "execute_result"):
            self._display(kind, content)
        elif kind == "update_display_data":
            self._update(content)
        elif kind in ("error", "clear_output"):
            self._write(kind, **content)

    def end(self) -> list[tuple[str, str]]:
        """End the streams; return the last pieces to display, as (stream, text)."""
        self.is_ended = True
        pieces = [
            (name, self._write_stream(name, cleaner.flush()))
            for name, cleaner in self._streams.items()
        ]
        for content in self._pending.values():
            self._display("update_display_data", content)
        self._pending.clear()
        if self._overflow:
            pieces.append(("stdout", self._overflow.tail()))
            self._write("attachment", **self._overflow.facts())
        return [(name, text) for name, text in pieces if text]

    def _write_stream(self, name: str, text: str) -> str:
        """Write text to the journal up to the limit, and the rest to an attachment."""
        remaining = max(0, min(self._remaining, self._outputs.remaining))
        shown, rest = text[:remaining], text[remaining:]
        self._remaining -= len(shown)
        self._outputs.remaining -= len(shown)
        for start in range(0, len(shown), _ENTRY_CHARS):
            self._write("stream", name=name, text=shown[start : start + _ENTRY_CHARS])
        if not rest:
            return shown
        if self._overflow is None:
            name = f"cell-{self.number:02}.log"
            self._overflow = OverflowLog(self._outputs.journal, self._outputs.attachments, name)
            self._write("attachment", **self._overflow.facts())
            shown += f"\n… the output continues in {self._overflow.name}\n"
        self._overflow.add(rest)
        return shown

    def _update(self, content: dict[str, Any]) -> None:
        """Journal an update, or keep it until the cell ends: the larger, the less often."""
        display_id = content.get("transient", {}).get("display_id", "")
        size = sum(map(_chars, content.get("data", {}).values()))
        pause_s = _UPDATE_S * max(1, size / _UPDATE_CHARS)
        is_soon = time.monotonic() - self._written.get(display_id, 0) < pause_s
        if is_soon or size > PART_LIMIT:
            self._pending[display_id] = content
            return
        self._pending.pop(display_id, None)
        self._display("update_display_data", content)
        self._written[display_id] = time.monotonic()

    def _display(self, kind: str, content: dict[str, Any]) -> None:
        display_id = content.get("transient", {}).get("display_id")
        # The report shows the last state of a display only.
        self._outputs.remaining += self._charged.pop(display_id, 0)
        limit, data = self._outputs.remaining, dict(content.get("data", {}))
        for mime, value in tuple(data.items()):
            if _chars(value) > min(PART_LIMIT, self._outputs.remaining):
                del data[mime]
                self._write("attachment", **self._outputs.attach(mime, value))
            else:
                self._outputs.remaining -= _chars(value)
        identity = {"display_id": display_id} if display_id else {}
        if display_id:
            self._charged[display_id] = limit - self._outputs.remaining
        self._write(kind, data=data, metadata=content.get("metadata", {}), **identity)

    def _write(self, kind: str, **data: Any) -> None:
        self._outputs.journal.write("output", cell=self.number, type=kind, **data)


def _chars(value: Any) -> int:
    return len(value) if isinstance(value, str) else 0


class OverflowLog:
    """The attachment for the output of a cell beyond its limit."""

    def __init__(self, journal: Journal, folder: Path, name: str) -> None:
        private_files.make_folder(folder)
        self.name = f"attachments/{name}"
        self._journal = journal
        self._file = FileIO(folder / name, "ab", opener=private_files.opener)
        self._bytes = self._lost = 0
        self._tail = ""

    def add(self, text: str) -> None:
        """Append text; bytes that do not fit on the disk are counted as lost.

        Once the journal has stopped, nothing is written: the reserved space is for its last lines.
        """
        data = text.encode("utf-8", "replace")
        self._tail = (self._tail + text)[-_TAIL_CHARS:]
        try:
            written = 0 if self._journal.stopped else self._file.write(data)
        except OSError as err:
            written = 0
            self._journal.stop(err)
        self._bytes += written
        self._lost += len(data) - written

    def tail(self) -> str:
        """Return the last lines for the report; a thread of the cell may still add more."""
        return f"… {self._bytes:,} bytes are in {self.name}; the last lines:\n{self._tail}"

    def facts(self) -> dict[str, Any]:
        """Return the fields of its journal entry."""
        lost = {"lost_bytes": self._lost} if self._lost else {}
        return {"file": self.name, "mime": "text/plain", "bytes": self._bytes, **lost}
