"""Text from outside, made fit for a terminal, a table and a job's log."""

from __future__ import annotations

import itertools
import re
import unicodedata

COMMAND = re.compile(r"^(\s*):(?=:)|##(?=\[)", re.MULTILINE)
"""How a line of a job's log gives GitHub's runner a command; ##[ does so anywhere in a line.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""


BLANKS = "\u115f\u1160\u2800\u3164\uffa0\U0001d159"
"""Letters and signs that show nothing."""
LABEL_CHARS = 100
"""The most that is taken of a version or a revision, from a label or from the application."""


def printable(text: object, limit: int = 200) -> str:
    """Return a value as one short line, whatever moves a cursor or hides text escaped.

    A label, a version or what a container says cannot clear a screen, begin a line, turn the
    reading direction or make a table wider than `limit` columns.
    """
    text = str(text)
    line = "".join(map(_shown_in_cell, text[: limit + 1]))
    line = COMMAND.sub(_inert, line)
    if width(line) <= limit:
        return line
    ends = itertools.accumulate(map(width, line))
    return line[: sum(end < limit for end in ends)] + "…"


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes; Chinese letters take two.

    https://www.unicode.org/reports/tr11/
    """
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def printable_lines(text: object) -> str:
    """Return a text of several lines with all else in it escaped; no line is cut."""
    lines = str(text).replace("\r\n", "\n").split("\n")
    return COMMAND.sub(_inert, "\n".join("".join(map(_shown, line)) for line in lines))


def _shown_in_cell(char: str) -> str:
    """Escape marks too: they have no width, and pile up over the lines above."""
    return _escaped(char) if unicodedata.category(char).startswith("M") else _shown(char)


def _shown(char: str) -> str:
    if char in "\t\xa0":
        return " "
    return char if char.isprintable() and char not in BLANKS else _escaped(char)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _inert(found: re.Match[str]) -> str:
    return "#\\x23" if found[0] == "##" else f"{found[1]}\\x3a"
