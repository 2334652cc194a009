"""Read a `.env` file: NAME=value lines, as in shells and Docker Compose."""

from __future__ import annotations

import io
import re

from dotenv.parser import parse_stream

from daybook.errors import SettingsError

MAX_PROBLEMS = 20
"""How many invalid lines an error lists."""
_BLANKS = re.compile(r"[^\S\n]{201}")
"""More consecutive spaces than any value has; the parser needs quadratic time for them."""


def parse(text: str, source: str) -> dict[str, str]:
    """Return the values by name: `{"TOKEN": "s3cret"}`; a quoted value may have several lines.

    Nothing is substituted: `$` and `%` are literal. SettingsError names the `source` and the
    numbers of the lines that are invalid or repeat a name, and never shows their content.
    """
    values: dict[str, str] = {}
    problems = [
        f"{source}:{number}: more than 200 consecutive spaces"
        for number, line in enumerate(text.splitlines(), 1)
        if _BLANKS.search(line)
    ]
    stream = io.StringIO("" if problems else text.removeprefix("\ufeff"))
    for entry in parse_stream(stream):
        if not entry.error and entry.key is None:
            continue
        line = f"{source}:{entry.original.line}"
        if entry.error or entry.value is None or not re.fullmatch(r"[A-Za-z_]\w*", entry.key, re.A):
            problems.append(f"{line}: not NAME=value")
        elif entry.key in values:
            problems.append(f"{line}: {entry.key} is set twice")
        else:
            values[entry.key] = entry.value
    if problems:
        raise SettingsError(
            f"{source} cannot be read.",
            details=problems[:MAX_PROBLEMS],
            expected="NAME=value on each line, with quotes around the value if needed",
            next="correct these lines and run the same command again",
        )
    return values
