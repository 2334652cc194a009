"""Types of arguments: each refuses, with exit code 2, what can be no such name."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import click

from daybook.errors import SettingsError
from daybook.settings.types import shown


class Name(click.ParamType):
    """A name of one pattern; an empty one, as of a variable that is not set, is none."""

    def __init__(self, name: str, pattern: str, expected: str) -> None:
        self.name, self.expected = name, expected
        self._pattern = re.compile(pattern)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or raise click's usage error."""
        if not self._pattern.fullmatch(value):
            self.fail(f"expected {self.expected}, got {shown(value)}", param, ctx)
        return value


RUN = Name("run", r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", "a run's id, its beginning or its end")
RELEASE = Name("id", r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "a release's id")
ENV = Name("env", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "the name of an environment")
STEP = Name("step", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "the name of a step")
LOCK = Name("id", r"[A-Za-z0-9-]{1,64}", "the id of a lock")
SECRET = Name("name", r"[A-Z][A-Z0-9_]{0,63}", "a name in capitals such as DATABASE_URL")
OPERATOR = Name("operator", r"[^\n]{1,200}", "a part of a name of at most 200 characters")
REASON = Name("reason", r"[^\n]{1,500}", "one line of at most 500 characters")
LIMIT = click.IntRange(1, 100_000)


def require_writable(path: Path) -> Path:
    """Raise SettingsError when a file cannot be written: no folder, or no regular file there."""
    try:
        is_odd = path.exists() and not stat.S_ISREG(path.stat().st_mode)
        problem = "something else than a file is there" if is_odd else ""
        problem = problem or ("" if path.parent.is_dir() else "its folder does not exist")
    except OSError as err:
        problem = err.strerror
    if problem:
        raise SettingsError(
            f"{shown(str(path))} cannot be written.",
            expected="a file in a folder that exists",
            observed=problem,
            next="choose another path",
        )
    return path
