"""Workflow commands: lines like ::notice::, and the files behind GITHUB_OUTPUT.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE")
_COMMAND = re.compile(r"::(?P<name>[\w-]+)(?: (?P<properties>.*?))?::(?P<value>.*)")
_PREFIXES = {"error": "Error: ", "warning": "Warning: ", "notice": "Notice: ", "debug": "##[debug]"}


class BadFile(Exception):
    """A step wrote an invalid assignment."""


def command(line: str) -> tuple[str, str] | None:
    """Return a line's command and value: ("add-mask", "secret")."""
    match = _COMMAND.fullmatch(line)
    return (match["name"], _unescape(match["value"])) if match else None


def log_line(name: str, value: str) -> str | None:
    """Return a command's line in the log; None if it is not logged."""
    if name == "group":
        return f"##[group]{value}"
    if name == "endgroup":
        return "##[endgroup]"
    return f"{_PREFIXES[name]}{value}" if name in _PREFIXES else None


def make_files(folder: Path) -> dict[str, str]:
    """Create a step's empty files and return the variables with their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name.lower() for name in FILES}
    for path in paths.values():
        path.write_text("")
    return {name: str(path) for name, path in paths.items()}


def assignments(path: str) -> dict[str, str]:
    """Parse name=value lines, and name<<END … END for multiline values."""
    lines = iter(Path(path).read_text(encoding="utf-8", errors="replace").splitlines())
    return dict(_assignment(line, lines) for line in lines if line)


def _assignment(line: str, rest: Iterator[str]) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    block, heredoc, end = line.partition("<<")
    if heredoc and len(block) < len(name):
        value_lines = []
        for value_line in rest:
            if value_line == end:
                return block, "\n".join(value_lines)
            value_lines.append(value_line)
        raise BadFile(f"Matching delimiter not found '{end}'")
    if not equals:
        raise BadFile(f"Invalid format '{line}'")
    return name, value


def _unescape(value: str) -> str:
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        value = value.replace(code, char)
    return value
