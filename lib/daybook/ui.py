"""Show results: tables, notices and live progress, as HTML for notebooks and text for terminals.

Everything that is shown is escaped, and a status is always a mark and a word besides a colour.
"""

from __future__ import annotations

import html
import io
import re
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

TEXT_WIDTH = 100
REDRAW_S = 0.25
TICK_S = 1.0


class Kind(StrEnum):
    """What a status means, whatever its word."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    BUSY = "busy"
    QUIET = "quiet"


MARKS = {Kind.GOOD: "✓", Kind.BAD: "✗", Kind.WARN: "!", Kind.BUSY: "…", Kind.QUIET: "-"}
TERMINAL_STYLES = {
    Kind.GOOD: "green",
    Kind.BAD: "bold red",
    Kind.WARN: "yellow",
    Kind.BUSY: "cyan",
    Kind.QUIET: "dim",
}
# JupyterLab and nbconvert define these variables for light and dark; a bare page does not.
COLOURS = {
    Kind.GOOD: "var(--jp-success-color1, #2e7d32)",
    Kind.BAD: "var(--jp-error-color1, #c62828)",
    Kind.WARN: "var(--jp-warn-color1, #b26a00)",
    Kind.BUSY: "var(--jp-info-color1, #0277bd)",
    Kind.QUIET: "inherit",
}
LINE = "border-bottom:1px solid rgba(128,128,128,.3)"
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CELL = f"text-align:left;vertical-align:top;padding:.25em 1.2em .25em 0;background:none;{LINE}"


@dataclass(frozen=True)
class Status:
    """A word with a meaning: `good("created")` shows as `✓ created`; `sign` is another mark."""

    kind: Kind
    word: str
    sign: str = ""

    @property
    def mark(self) -> str:
        return self.sign or MARKS[self.kind]

    def __str__(self) -> str:
        return f"{self.mark} {self.word}"


def good(word: str) -> Status:
    return Status(Kind.GOOD, word)


def bad(word: str) -> Status:
    return Status(Kind.BAD, word)


def warn(word: str) -> Status:
    return Status(Kind.WARN, word)


def busy(word: str) -> Status:
    return Status(Kind.BUSY, word)


def quiet(word: str) -> Status:
    return Status(Kind.QUIET, word)


OK, FAILED, WARNING = good("ok"), bad("failed"), warn("warning")
RUNNING, SKIPPED = busy("running"), quiet("skipped")


class Shown:
    """A result that shows itself: `view()` says as what, a Table or a Notice."""

    def view(self) -> Shown:
        raise NotImplementedError

    def html(self) -> str:
        return self.view().html()

    def __rich__(self) -> RenderableType:
        return self.view().__rich__()

    def _repr_html_(self) -> str:
        return self.html()

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        printer.text(text(self))

    def __repr__(self) -> str:
        return text(self)

    def __str__(self) -> str:
        return text(self)


@dataclass(frozen=True, repr=False)
class Table(Shown):
    """Rows under a title. A cell is a Status or anything that str() can tell."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    status: Status | None = None
    notes: Sequence[str] = ()

    def html(self) -> str:
        head = "".join(f'<th style="{CELL}">{escape(name)}</th>' for name in self.columns)
        body = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in self.rows)
        table = (
            '<table style="border-collapse:collapse;margin:.4em 0;font-size:inherit">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )
        inner = (table if self.rows else "") + _html_lines(self.notes)
        return _html_block(self.title, self.status, inner)

    def __rich__(self) -> RenderableType:
        table = RichTable(*map(plain, self.columns), box=box.SIMPLE_HEAD, pad_edge=False)
        for column in table.columns:
            column.overflow = "fold"
        for row in self.rows:
            table.add_row(*map(_rich_cell, row))
        return _rich_block(self.title, self.status, [table] if self.rows else [], self.notes)


@dataclass(frozen=True, repr=False)
class Notice(Shown):
    """A short result: a title, its status, a few lines."""

    title: str
    status: Status | None = None
    lines: Sequence[str] = ()

    def html(self) -> str:
        return _html_block(self.title, self.status, _html_lines(self.lines))

    def __rich__(self) -> RenderableType:
        return _rich_block(self.title, self.status, [], self.lines)


@dataclass(frozen=True, repr=False)
class Stack(Shown):
    """Several views, one under the other."""

    views: Sequence[Shown]

    def html(self) -> str:
        return "".join(view.html() for view in self.views)

    def __rich__(self) -> RenderableType:
        return Group(*(view.__rich__() for view in self.views))


def text(view: Shown, width: int = TEXT_WIDTH) -> str:
    """Return a view as plain text, without colours, at most `width` columns wide."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, force_jupyter=False).print(view.__rich__())
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def plain(value: object) -> str:
    """Return a value as text that cannot steer a terminal."""
    without_escapes = re.sub(
        r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)", "", str(value)
    )
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", without_escapes)


def escape(value: object) -> str:
    """Return a value as text that cannot steer a page."""
    return html.escape(plain(value))


def duration(seconds: float) -> str:
    """Say a duration: `0.4 s`, `12 s`, `2 min 05 s`."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _html_cell(cell: object) -> str:
    if isinstance(cell, Status):
        inner = _html_status(cell, str(cell))
    else:
        inner = escape(cell).replace("\n", "<br>")
    return f'<td style="{CELL}">{inner}</td>'


def _html_status(status: Status, words: str) -> str:
    colour = COLOURS[status.kind]
    return f'<span style="color:{colour};white-space:nowrap">{escape(words)}</span>'


def _html_block(title: str, status: Status | None, inner: str) -> str:
    mark = f"{_html_status(status, status.mark)} " if status else ""
    head = f'<div style="font-weight:600;margin-top:.4em">{mark}{escape(title)}</div>'
    return f'<div style="font-family:var(--jp-content-font-family, sans-serif)">{head}{inner}</div>'


def _html_lines(lines: Sequence[str]) -> str:
    return "".join(f'<div style="white-space:pre-wrap">{escape(line)}</div>' for line in lines)


def _rich_cell(cell: object) -> Text:
    style = TERMINAL_STYLES[cell.kind] if isinstance(cell, Status) else ""
    return Text(plain(cell), style=style)


def _rich_block(title: str, status: Status | None, inner: list, lines: Sequence[str]) -> Group:
    head = Text(plain(title), style="bold")
    if status:
        head = Text.assemble((f"{status.mark} ", TERMINAL_STYLES[status.kind]), head)
    return Group(head, *inner, *(Text(plain(line)) for line in lines))


@dataclass(frozen=True)
class _Row:
    label: str
    status: Status
    detail: str
    started: float
    ended: float | None = None

    def took(self, now: float) -> str:
        return duration((self.ended or now) - self.started)


@dataclass
class Progress:
    """A live table of what is under way; outside a kernel, one printed line an event.

    Redrawn at most four times a second and once a second while something runs. The newest
    lines travel in the display's metadata, `{"daybook": {"line": …}}`, for a driver to print.
    """

    title: str
    total: int | None = None
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
        threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._done.set()
        with self._lock:
            self._status = good("done") if kind is None else FAILED
            for key, row in self._rows.items():
                if row.ended is None:
                    self.row(key, warn("unfinished"))
            self._draw()

    def row(self, key: str, status: Status, detail: str = "", *, label: str | None = None) -> None:
        """Set what is known of one thing; a status that is not busy ends it."""
        now = time.monotonic()
        with self._lock:
            row = self._rows.get(key) or _Row(label or key, status, detail, now)
            is_busy = status.kind is Kind.BUSY
            row = replace(row, status=status, detail=detail, ended=None if is_busy else now)
            self._rows[key] = row
            # The beginning of what has ended by now, and was not drawn yet, says nothing.
            self._lines = [line for line in self._lines if line[0] != key]
            took = f" ({row.took(now)})" if now - row.started >= 1 else ""
            said = " ".join(filter(None, [str(status), row.label, detail])) + took
            self._add(key if is_busy else "", said)
            if not is_busy:
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
        return Table(title, ("status", "what", "detail", "time"), rows, status=self._status)

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
        from IPython.display import display

        view = self.view()
        display(
            {"text/plain": text(view), "text/html": view.html()},
            raw=True,
            metadata={"daybook": {"line": "\n".join(lines)}},
            display_id=self._id,
            update=again,
        )


def in_kernel() -> bool:
    """Say whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
