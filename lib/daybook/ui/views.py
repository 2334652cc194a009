"""Show results: tables and notices, as HTML for notebooks and text for terminals.

All text is escaped, and a status always has a mark and a word besides its colour.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from daybook_release.printable import printable_lines

TEXT_WIDTH = 100


class Kind(StrEnum):
    """The meaning of a status, independent of its word."""

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
CELL = (
    "text-align:left;vertical-align:top;overflow-wrap:anywhere;"
    f"padding:.25em 1.2em .25em 0;background:none;{LINE}"
)


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
    """A result that shows itself; `view()` returns a Table or a Notice."""

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
    """Rows under a title. A cell is a Status or any object with a str().

    whole: columns to copy from; their cells are not wrapped.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    status: Status | None = None
    notes: Sequence[str] = ()
    whole: Collection[str] = ()

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
            column.no_wrap = column.header in self.whole
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
class Command(Shown):
    """A command that was started, as a shell would take it, and the path of its log."""

    command: str
    log: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """Return it as lines of text."""
        return (f"$ {self.command}", *((f"  log: {self.log}",) if self.log else ()))

    def html(self) -> str:
        log = f'<div style="padding-left:1.2em">log: {escape(self.log)}</div>' if self.log else ""
        return (
            '<div style="font-family:var(--jp-code-font-family, monospace);margin-top:.4em;'
            f'overflow-wrap:anywhere"><div>$ {escape(self.command)}</div>{log}</div>'
        )

    def __rich__(self) -> RenderableType:
        return Group(*(Text(plain(line), style=TERMINAL_STYLES[Kind.QUIET]) for line in self.lines))


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
    """Return a value as text that steers neither a terminal nor the reader of a job's log."""
    return printable_lines(_ESCAPE.sub("", str(value)))


def escape(value: object) -> str:
    """Return a value as text that cannot steer a page."""
    return html.escape(plain(value))


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
