"""Argument types; each refuses an invalid name with exit code 2."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import click

from daybook.errors import SettingsError
from daybook.settings.types import shown


class Name(click.ParamType):
    """A name that matches a pattern. An empty name, as from an unset variable, is invalid."""

    def __init__(self, name: str, pattern: str, expected: str) -> None:
        self.name, self.expected = name, expected
        self._pattern = re.compile(pattern)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or raise click's usage error."""
        if not self._pattern.fullmatch(value):
            self.fail(f"expected {self.expected}, got {shown(value)}", param, ctx)
        return value


RUN = Name("run", r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", "a run's id, or the start or end of it")
RELEASE = Name("id", r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "a release's id")
ENV = Name("env", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "the name of an environment")
STEP = Name("step", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "the name of a step")
LOCK = Name("id", r"[A-Za-z0-9-]{1,64}", "the id of a lock")
SECRET = Name("name", r"[A-Z][A-Z0-9_]{0,63}", "an uppercase name such as DATABASE_URL")
OPERATOR = Name("operator", r"[^\n]{1,200}", "a part of a name, at most 200 characters")
REASON = Name("reason", r"[^\n]{1,500}", "one line of at most 500 characters")
LIMIT = click.IntRange(1, 100_000)


def require_writable(path: Path) -> Path:
    """Raise SettingsError unless a path is a regular file, or a new one in an existing folder."""
    try:
        is_special = path.exists() and not stat.S_ISREG(path.stat().st_mode)
        problem = "not a regular file" if is_special else ""
        problem = problem or ("" if path.parent.is_dir() else "its folder does not exist")
    except OSError as err:
        problem = err.strerror
    if problem:
        raise SettingsError(
            f"{shown(str(path))} cannot be written.",
            expected="a file in an existing folder",
            observed=problem,
            next="use another path",
        )
    return path
