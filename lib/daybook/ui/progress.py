"""Show work in progress: a table that is redrawn in a kernel, lines in a terminal."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from dataclasses import dataclass, field, replace

from daybook.ui.formats import duration
from daybook.ui.views import (
    FAILED,
    RUNNING,
    Command,
    Kind,
    Shown,
    Stack,
    Status,
    Table,
    good,
    plain,
    text,
    warn,
)

REDRAW_S = 0.25
TICK_S = 1.0


@dataclass(frozen=True)
class _Row:
    label: str
    status: Status
    detail: str
    started: float
    ended: float | None = None

    def took(self, now: float) -> str:
        return duration((self.ended or now) - self.started)


@dataclass(eq=False)
class Progress:
    """A live table of work in progress; outside a kernel, one printed line per event.

    Redrawn at most four times a second and once a second while something runs. The newest
    lines travel in the display's metadata, `{"daybook": {"line": …}}`, for a driver to print.
    """

    title: str
    total: int | None = None
    _commands: list[Command] = field(default_factory=list)
    _rows: dict[str, _Row] = field(default_factory=dict)
    _lines: list[tuple[str, str]] = field(default_factory=list)
    _status: Status = field(default=RUNNING)
    _started: float = field(default_factory=time.monotonic)
    _drawn: float | None = None
    _changed: bool = False
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Progress:
        self.say(self.title)
        _open.append(self)
        threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._done.set()
        _open.remove(self)
        with self._lock:
            self._status = good("done") if kind is None else FAILED
            for key, row in self._rows.items():
                if row.ended is None:
                    self.row(key, warn("unfinished"))
            self._draw()

    def row(
        self,
        key: str,
        status: Status,
        detail: str = "",
        *,
        label: str | None = None,
        is_minor: bool = False,
    ) -> None:
        """Set the status of one row; a status that is not busy ends it.

        is_minor: it has its row in the table, but no line on a terminal.
        """
        now = time.monotonic()
        with self._lock:
            row = self._rows.get(key) or _Row(label or key, status, detail, now)
            is_busy = status.kind is Kind.BUSY
            row = replace(row, status=status, detail=detail, ended=None if is_busy else now)
            self._rows[key] = row
            # Drop the undrawn line of a start that has ended in the meantime.
            self._lines = [line for line in self._lines if line[0] != key]
            if not is_minor:
                took = f" ({row.took(now)})" if now - row.started >= 1 else ""
                line = " ".join(filter(None, [str(status), row.label, detail])) + took
                self._add(key if is_busy else "", line)
            self._changed = True
            if not is_busy:
                self._draw_if_due()

    def command(self, command: Command) -> None:
        """Show a command above the table."""
        with self._lock:
            self._commands.append(command)
            for line in command.lines:
                self._add("", line)
            self._draw_if_due()

    def say(self, line: str) -> None:
        """Add one line for the terminal."""
        with self._lock:
            self._add("", line)
            self._draw_if_due()

    def _add(self, key: str, line: str) -> None:
        self._lines.append((key, plain(line)))
        self._changed = True

    def _draw_if_due(self) -> None:
        if self._drawn is None or time.monotonic() - self._drawn >= REDRAW_S:
            self._draw()

    def view(self) -> Table:
        """Return the table as it is now."""
        now = time.monotonic()
        rows = [(r.status, r.label, r.detail, r.took(now)) for r in self._rows.values()]
        ended = sum(row.ended is not None for row in self._rows.values())
        count = f"{ended} of {self.total}, " if self.total else ""
        title = f"{self.title} ({count}{duration(now - self._started)})"
        return Table(title, ("status", "item", "detail", "time"), rows, status=self._status)

    def _tick(self) -> None:
        while not self._done.wait(REDRAW_S):
            with self._lock:
                running = any(row.ended is None for row in self._rows.values())
                due = running and time.monotonic() - self._drawn >= TICK_S
                if (self._changed or due) and not self._done.is_set():
                    self._draw()

    def _draw(self) -> None:
        lines, self._lines = [line for _, line in self._lines], []
        again, self._drawn, self._changed = self._drawn is not None, time.monotonic(), False
        if not in_kernel():
            print(*lines, sep="\n", end="\n" if lines else "", flush=True)
            return
        view = Stack((*self._commands, self.view()))
        _display(view, lines, display_id=self._id, update=again)


_open: list[Progress] = []
"""The progress displays that are open, the innermost last."""


def show_command(command: Command) -> None:
    """Show a command that is started: above the open progress display, or by itself."""
    if _open:
        _open[-1].command(command)
    else:
        show(command)


def show(view: Shown) -> None:
    """Show a view at once, in the cell that runs or on the terminal."""
    if in_kernel():
        _display(view, text(view).splitlines())
    else:
        print(text(view), flush=True)


def _display(view: Shown, lines: list[str], **options: object) -> None:
    from IPython.display import display

    display(
        {"text/plain": text(view), "text/html": view.html()},
        raw=True,
        metadata={"daybook": {"line": "\n".join(lines)}},
        **options,
    )


def in_kernel() -> bool:
    """Tell whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
