"""Read a `.env` file: NAME=value lines, as shells and Docker Compose write them."""

from __future__ import annotations

import re

from daybook.errors import SettingsError

_ENTRY = re.compile(
    r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*="
    r"""(?:[ \t]*(?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)")"""
    r"[ \t]*(?:(?<=[ \t])#[^\n]*)?(?:\n|\Z)|(?P<bare>(?![ \t]*['\"])[^\n]*)(?:\n|\Z))",
    re.DOTALL,
)
"""No part of it may match in two ways: a long line would take minutes."""
_IGNORED = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
MAX_PROBLEMS = 20
"""So many lines are named."""
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def parse(text: str, source: str) -> dict[str, str]:
    """Return the values by name: `{"TOKEN": "s3cret"}`; a quoted one may have several lines.

    Nothing is substituted: `$` and `%` stand for themselves. SettingsError names the `source`
    and the lines that are none or say a name again, and never what is in them.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    wrong, at, begun, number = [], 0, 0, 1
    while at < len(text):
        number += text.count("\n", begun, at)
        begun, line = at, f"{source}:{number}"
        if ignored := _IGNORED.match(text, at):
            at = ignored.end()
        elif entry := _ENTRY.match(text, at):
            wrong += [f"{line}: {entry['name']} a second time"] if entry["name"] in found else []
            found[entry["name"]] = _value(entry)
            at = entry.end()
        else:
            wrong.append(f"{line}: not NAME=value")
            at = text.find("\n", at) + 1 or len(text)
    if wrong:
        raise SettingsError(
            f"{source} cannot be read.",
            details=wrong[:MAX_PROBLEMS],
            expected="a line NAME=value for each, its value in '…' or \"…\" where need be",
            next="correct these lines and run the same command again",
        )
    return found


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return re.sub(
            r"\\(.)", lambda m: _ESCAPED.get(m[1], m[1]), entry["double"], flags=re.DOTALL
        )
    return re.split(r"[ \t]#", entry["bare"], maxsplit=1)[0].strip(" \t")
