"""Text from outside, made fit for a terminal, a table and a job's log."""

from __future__ import annotations

import re
import unicodedata

COMMAND = re.compile(r"^(\s*):(?=:)|##(?=\[)", re.MULTILINE)
"""How a line of a job's log gives GitHub's runner a command; ##[ does so anywhere in a line.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""


LABEL_CHARS = 100
"""The most that is taken of a version or a revision, from a label or from the application."""


def printable(text: object, limit: int = 200) -> str:
    """Return a value as one short line, whatever moves a cursor or hides text escaped.

    A label, a version or what a container says cannot clear a screen, begin a line, turn the
    reading direction or make a table wider than `limit` characters.
    """
    text = str(text)
    line = "".join(map(_shown_in_cell, text[: limit + 1]))
    line = COMMAND.sub(_inert, line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def printable_lines(text: object) -> str:
    """Return a text of several lines with all else in it escaped; no line is cut."""
    lines = str(text).replace("\r\n", "\n").split("\n")
    return COMMAND.sub(_inert, "\n".join("".join(map(_shown, line)) for line in lines))


def _shown_in_cell(char: str) -> str:
    """Escape marks too: they have no width, and pile up over the lines above."""
    return _escaped(char) if unicodedata.category(char).startswith("M") else _shown(char)


def _shown(char: str) -> str:
    return " " if char in "\t\xa0" else char if char.isprintable() else _escaped(char)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _inert(found: re.Match[str]) -> str:
    return "#\\x23" if found[0] == "##" else f"{found[1]}\\x3a"
