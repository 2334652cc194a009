"""Read a `.env` file: NAME=value lines, as shells and Docker Compose write them."""

from __future__ import annotations

import io
import re

from dotenv.parser import parse_stream

from daybook.errors import SettingsError

MAX_PROBLEMS = 20
"""The most lines that an error names."""
_BLANKS = re.compile(r"[^\S\n]{201}")
"""More blanks in a row than any value has: the parser takes quadratic time for them."""


def parse(text: str, source: str) -> dict[str, str]:
    """Return the values by name: `{"TOKEN": "s3cret"}`; a quoted one may have several lines.

    Nothing is substituted: `$` and `%` stand for themselves. SettingsError names the `source` and
    the lines that are no NAME=value or repeat a name, and never their content.
    """
    values: dict[str, str] = {}
    problems = [
        f"{source}:{number}: more than 200 blanks in a row"
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
            problems.append(f"{line}: {entry.key} a second time")
        else:
            values[entry.key] = entry.value
    if problems:
        raise SettingsError(
            f"{source} cannot be read.",
            details=problems[:MAX_PROBLEMS],
            expected="NAME=value on each line, the value in '…' or \"…\" where needed",
            next="correct these lines and run the same command again",
        )
    return values
