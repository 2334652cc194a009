"""The output of `daybook run`: the name of each cell, its live output, errors as plain lines."""

from __future__ import annotations

import os
import time

from rich.console import Console
from rich.text import Text

from daybook import ui

_COLOURS = {"✓": "green", "✗": "bold red", "+": "green", "~": "yellow", "±": "red", "-": "red"}


class Terminal:
    """Prints a run's progress. quiet: print only errors."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self.errors = Console(highlight=False, soft_wrap=True, stderr=True)
        self.started = time.monotonic()

    def note(self, text: str) -> None:
        """Print a message of Daybook."""
        self.console.print(Text(text, style="dim"))

    def problem(self, text: str) -> None:
        """Print an error, even when quiet."""
        self.errors.print(Text(text, style="red"))

    def show(self, view: ui.Shown) -> None:
        """Print a table or a panel."""
        self.console.print(view)

    def cell(self, cell) -> None:
        """Announce a code cell by its tag."""
        tags = cell.metadata.get("tags", [])
        if (
            cell.cell_type == "code"
            and tags
            and tags[0] not in {"parameters", "injected-parameters"}
        ):
            self.console.print(
                Text(f"\n{tags[0]} ", style="bold") + Text(self._clock(), style="dim")
            )

    def message(self, msg: dict) -> None:
        """Print the readable part of a message from the kernel."""
        kind, content = msg["msg_type"], msg["content"]
        if kind == "stream":
            self.console.print(Text(content["text"].rstrip("\n")))
        elif kind in {"execute_result", "display_data", "update_display_data"}:
            self._shown(content, is_update=kind.startswith("update"))
        elif kind == "error":
            self.problem(content["evalue"])

    def detach(self) -> None:
        """Stop using a closed terminal: a write to it would end this process."""
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)

    def _shown(self, content: dict, *, is_update: bool) -> None:
        """Print the newest lines of progress, the text of other outputs, and no widgets."""
        data = content["data"]
        line = content.get("metadata", {}).get("daybook", {}).get("line")
        text = line if line is not None or is_update else data.get("text/plain", "")
        if text and "application/vnd.jupyter.widget-view+json" not in data:
            for row in text.splitlines():
                self.console.print(_coloured(row))

    def _clock(self) -> str:
        return f"{time.monotonic() - self.started:.0f} s"


def _coloured(line: str) -> Text:
    text = Text(line)
    mark = line.lstrip()[:1]
    if mark in _COLOURS:
        at = line.index(mark)
        text.stylize(_COLOURS[mark], at, at + 1)
    return text
