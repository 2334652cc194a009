"""Terminal text as HTML: colours, lines written over, and long texts folded."""

from __future__ import annotations

import html
import re

_CONTROL = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1a\x1c-\x1f]")
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_FOLD_LINES = 40
_FOLD_CHARS = 6_000


def folded(text: str, kind: str) -> str:
    """Show a text with its colours; of a long one its end, and the whole on request."""
    text = _settled(text)
    lines = text.count("\n") + 1
    shown = f'<pre class="{kind}">{coloured(text)}</pre>'
    if lines <= _FOLD_LINES and len(text) <= _FOLD_CHARS:
        return shown
    end = "\n".join(text[-_FOLD_CHARS:].splitlines()[-8:])
    title = f"{lines:,} lines, {len(text):,} characters; they end with"
    return (
        f"<details><summary>{title}</summary>{shown}</details>"
        f'<pre class="{kind} end">{coloured(end)}</pre>'
    )


def _settled(text: str) -> str:
    """Keep of a line that was written over with carriage returns what was last to be seen."""
    text = text.replace("\r\n", "\n")
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def coloured(text: str) -> str:
    """Turn ANSI colours into spans and drop every other control sequence."""
    pieces, position, is_open = [], 0, False
    for found in _CONTROL.finditer(text):
        pieces.append(html.escape(text[position : found.start()], quote=False))
        position = found.end()
        if found[2] == "m":
            pieces.append("</span>" if is_open else "")
            classes = _classes(found[1])
            is_open = bool(classes)
            pieces.append(f'<span class="{classes}">' if classes else "")
    pieces.append(html.escape(text[position:], quote=False))
    return "".join(pieces) + ("</span>" if is_open else "")


def _classes(codes: str) -> str:
    numbers = [int(code) for code in codes.split(";") if 0 < len(code) < 4]
    names = ["bold"] if 1 in numbers else []
    names += [_COLOURS[n % 10] for n in numbers if 30 <= n <= 37 or 90 <= n <= 97]
    return " ".join(names)
