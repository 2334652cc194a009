"""Make untrusted text safe to print in a terminal, a table or a job's log."""

from __future__ import annotations

import itertools
import re
import unicodedata

COMMAND = re.compile(r"^(\s*):(?=:)|##(?=\[)", re.MULTILINE)
"""Commands to GitHub's runner in a job's log; ##[ is one anywhere in a line.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""


BLANKS = "\u115f\u1160\u2800\u3164\uffa0\U0001d159"
"""Characters without a visible glyph."""
LABEL_CHARS = 100
"""The maximum length of a version or revision, from a label or the application."""


def printable(text: object, limit: int = 200) -> str:
    """Return a value as one line of at most `limit` columns, with unsafe characters escaped.

    A label, a version or a container's output cannot clear the screen, begin a new line, change
    the reading direction or widen a table.
    """
    text = str(text)
    line = "".join(map(_escape_in_cell, text[: limit + 1]))
    line = COMMAND.sub(_neutralize, line)
    if width(line) <= limit:
        return line
    ends = itertools.accumulate(map(width, line))
    return line[: sum(end < limit for end in ends)] + "…"


def width(text: str) -> int:
    """Return the number of terminal columns of a text; wide characters take two.

    https://www.unicode.org/reports/tr11/
    """
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def printable_lines(text: object) -> str:
    """Return a text with unsafe characters escaped and line breaks kept; cut no line."""
    lines = str(text).replace("\r\n", "\n").split("\n")
    return COMMAND.sub(_neutralize, "\n".join("".join(map(_escape, line)) for line in lines))


def _escape_in_cell(char: str) -> str:
    """Escape combining marks, too: they have no width and could overlay other lines."""
    return _escape_sequence(char) if unicodedata.category(char).startswith("M") else _escape(char)


def _escape(char: str) -> str:
    if char in "\t\xa0":
        return " "
    return char if char.isprintable() and char not in BLANKS else _escape_sequence(char)


def _escape_sequence(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _neutralize(match: re.Match[str]) -> str:
    return "#\\x23" if match[0] == "##" else f"{match[1]}\\x3a"
