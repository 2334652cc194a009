"""What one execution of a cell puts out, and how much of it a record keeps on its page."""

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
"""Characters of a cell, and of a run, that the page shows; the rest goes to an attachment."""
PART_LIMIT = 256_000
"""Characters of one representation of one display that the page shows."""
_ROW = 65_536
_TAIL = 4_096
_UPDATE_S = 1.0
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/svg+xml": ".svg"}


class Outputs:
    """What the cells of one run share: the journal, the numbers, the room left."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.attachments = journal.path.parent / "attachments"
        self.room = RUN_LIMIT
        self.loose = Cell(0, self)
        self._cells, self._files = itertools.count(1), itertools.count(1)

    def next_cell(self) -> int:
        """Return the number of the next execution."""
        return next(self._cells)

    def attach(self, mime: str, value: str) -> dict[str, Any]:
        """Put an output that is too large for the page into a file; return what to say of it."""
        if self.journal.stopped:
            return {"file": "no attachment", "mime": mime, "bytes": 0, "lost_bytes": len(value)}
        private_files.make_folder(self.attachments)
        path = self.attachments / f"output-{next(self._files):03}{_SUFFIXES.get(mime, '.txt')}"
        is_binary = mime in ("image/png", "image/jpeg")
        content = base64.b64decode(value) if is_binary else value.encode("utf-8", "replace")
        private_files.write(path, content)
        return {"file": f"attachments/{path.name}", "mime": mime, "bytes": len(content)}


class Cell:
    """One execution: its streams, its displays, and its overflow. Not thread-safe."""

    def __init__(self, number: int, outputs: Outputs) -> None:
        self.number = number
        self.started = time.monotonic()
        self.is_ended = False
        self._outputs = outputs
        self._streams: dict[str, Stream] = {}
        self._room = CELL_LIMIT
        self._overflow: Overflow | None = None
        self._written: dict[str, float] = {}
        self._pending: dict[str, dict[str, Any]] = {}

    def stream(self, name: str, text: str) -> str:
        """Journal a piece of stdout or stderr; return what may be shown of it by now."""
        cleaner = self._streams.setdefault(name, self._outputs.journal.redactor.stream())
        clean = cleaner.feed(text)
        return self._take(name, clean + cleaner.flush() if self.is_ended else clean)

    def output(self, kind: str, content: dict[str, Any]) -> None:
        """Journal a display, a result or an error; updates of one display once a second."""
        if kind in ("display_data", "execute_result"):
            self._display(kind, content)
        elif kind == "update_display_data":
            self._update(content)
        elif kind in ("error", "clear_output"):
            self._write(kind, **content)

    def end(self) -> list[tuple[str, str]]:
        """Close the streams; return the last pieces to show, as (stream, text)."""
        self.is_ended = True
        rest = [
            (name, self._take(name, cleaner.flush())) for name, cleaner in self._streams.items()
        ]
        for content in self._pending.values():
            self._display("update_display_data", content)
        self._pending.clear()
        if self._overflow:
            rest.append(("stdout", self._overflow.last_words()))
            self._write("attachment", **self._overflow.facts())
        return [(name, text) for name, text in rest if text]

    def _take(self, name: str, text: str) -> str:
        """Keep what there is room for in the journal, and the rest in an attachment."""
        room = max(0, min(self._room, self._outputs.room))
        shown, rest = text[:room], text[room:]
        self._room -= len(shown)
        self._outputs.room -= len(shown)
        for at in range(0, len(shown), _ROW):
            self._write("stream", name=name, text=shown[at : at + _ROW])
        if not rest:
            return shown
        if self._overflow is None:
            name = f"cell-{self.number:02}.log"
            self._overflow = Overflow(self._outputs.journal, self._outputs.attachments, name)
            self._write("attachment", **self._overflow.facts())
            shown += f"\n… the output goes on in {self._overflow.name}\n"
        self._overflow.add(rest)
        return shown

    def _update(self, content: dict[str, Any]) -> None:
        display_id = content.get("transient", {}).get("display_id", "")
        if time.monotonic() - self._written.get(display_id, 0) < _UPDATE_S:
            self._pending[display_id] = content
            return
        self._pending.pop(display_id, None)
        self._display("update_display_data", content)
        self._written[display_id] = time.monotonic()

    def _display(self, kind: str, content: dict[str, Any]) -> None:
        display_id = content.get("transient", {}).get("display_id")
        data = dict(content.get("data", {}))
        for mime, value in tuple(data.items()):
            if isinstance(value, str) and len(value) > min(PART_LIMIT, self._outputs.room):
                del data[mime]
                self._write("attachment", **self._outputs.attach(mime, value))
            else:
                self._outputs.room -= len(value) if isinstance(value, str) else 0
        metadata = content.get("metadata", {})
        identity = {"display_id": display_id} if display_id else {}
        self._write(kind, data=data, metadata=metadata, **identity)

    def _write(self, kind: str, **data: Any) -> None:
        self._outputs.journal.write("output", cell=self.number, type=kind, **data)


class Overflow:
    """The attachment that takes what a cell prints beyond its limit."""

    def __init__(self, journal: Journal, folder: Path, name: str) -> None:
        private_files.make_folder(folder)
        self.name = f"attachments/{name}"
        self._journal = journal
        self._file = FileIO(folder / name, "ab", opener=private_files.opener)
        self._bytes = self._lost = 0
        self._tail = ""

    def add(self, text: str) -> None:
        """Append; what a full disk refuses is counted, and the kernel goes on.

        The room that the journal gave up when the disk was full is for its own last lines.
        """
        data = text.encode("utf-8", "replace")
        self._tail = (self._tail + text)[-_TAIL:]
        try:
            written = 0 if self._journal.stopped else self._file.write(data)
        except OSError as err:
            written = 0
            self._journal.stop(err)
        self._bytes += written
        self._lost += len(data) - written

    def last_words(self) -> str:
        """Return the last lines, for the page; a thread of the cell may still add some."""
        return f"… {self._bytes:,} bytes are in {self.name}; they end with:\n{self._tail}"

    def facts(self) -> dict[str, Any]:
        """Return what the journal says of it."""
        lost = {"lost_bytes": self._lost} if self._lost else {}
        return {"file": self.name, "mime": "text/plain", "bytes": self._bytes, **lost}
