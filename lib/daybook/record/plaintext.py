"""Render terminal text as HTML: colours, overwritten lines, folded long texts."""

from __future__ import annotations

import html
import re

_CONTROL = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1a\x1c-\x1f]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_FOLD_LINES = 40
_FOLD_CHARS = 6_000


def folded(text: str, kind: str) -> str:
    """Return a text with its colours; a long one is folded, with its last lines shown."""
    text = _without_overwritten(text)
    lines = text.count("\n") + 1
    shown = f'<pre class="{kind}">{coloured(text)}</pre>'
    if lines <= _FOLD_LINES and len(text) <= _FOLD_CHARS:
        return shown
    end = "\n".join(text[-_FOLD_CHARS:].splitlines()[-8:])
    title = f"{lines:,} lines, {len(text):,} characters, ending with"
    return (
        f"<details><summary>{title}</summary>{shown}</details>"
        f'<pre class="{kind} end">{coloured(end)}</pre>'
    )


def _without_overwritten(text: str) -> str:
    """Keep the last state of each line that was overwritten with carriage returns."""
    text = text.replace("\r\n", "\n")
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def coloured(text: str) -> str:
    """Convert ANSI colours to spans and drop all other control sequences."""
    pieces, position, is_open = [], 0, False
    for match in _CONTROL.finditer(text):
        pieces.append(html.escape(text[position : match.start()], quote=False))
        position = match.end()
        if match[2] == "m":
            pieces.append("</span>" if is_open else "")
            classes = _classes(match[1])
            is_open = bool(classes)
            pieces.append(f'<span class="{classes}">' if classes else "")
    pieces.append(html.escape(text[position:], quote=False))
    return "".join(pieces) + ("</span>" if is_open else "")


def _classes(codes: str) -> str:
    numbers = [int(code) for code in codes.split(";") if 0 < len(code) < 4]
    names = ["bold"] if 1 in numbers else []
    names += [_COLOURS[n % 10] for n in numbers if 30 <= n <= 37 or 90 <= n <= 97]
    return " ".join(names)
