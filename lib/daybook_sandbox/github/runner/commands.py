"""What a step says to the runner: lines like ::notice::, and the files behind GITHUB_OUTPUT.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_STATE")
_COMMAND = re.compile(r"::(?P<name>[\w-]+)(?: (?P<properties>.*?))?::(?P<value>.*)")
_SHOWN = {"error": "Error: ", "warning": "Warning: ", "notice": "Notice: ", "debug": "##[debug]"}


class BadFile(Exception):
    """A step wrote what is no assignment."""


def command(line: str) -> tuple[str, str] | None:
    """Return a line's command and what it is about: ("add-mask", "secret")."""
    found = _COMMAND.fullmatch(line)
    return (found["name"], _plain(found["value"])) if found else None


def shown(name: str, value: str) -> str | None:
    """Return how the log shows a command; None where it does not."""
    if name == "group":
        return f"##[group]{value}"
    if name == "endgroup":
        return "##[endgroup]"
    return f"{_SHOWN[name]}{value}" if name in _SHOWN else None


def make_files(folder: Path) -> dict[str, str]:
    """Make a step's empty files and return the variables that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name.lower() for name in FILES}
    for path in paths.values():
        path.write_text("")
    return {name: str(path) for name, path in paths.items()}


def assignments(path: str) -> dict[str, str]:
    """Read name=value lines, and name<<END … END for several lines."""
    lines = iter(Path(path).read_text(encoding="utf-8", errors="replace").splitlines())
    return dict(_assignment(line, lines) for line in lines if line)


def _assignment(line: str, rest: Iterator[str]) -> tuple[str, str]:
    name, sign, value = line.partition("=")
    block, mark, end = line.partition("<<")
    if mark and len(block) < len(name):
        found = []
        for each in rest:
            if each == end:
                return block, "\n".join(found)
            found.append(each)
        raise BadFile(f"Matching delimiter not found '{end}'")
    if not sign:
        raise BadFile(f"Invalid format '{line}'")
    return name, value


def _plain(value: str) -> str:
    for code, sign in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        value = value.replace(code, sign)
    return value
