"""The project's root, and the names of its environments."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from daybook.errors import SettingsError
from daybook.settings import types

NOTEBOOKS = ("notebooks", "runbooks")
"""The folders with the notebooks of the steps."""


def find_root(start: Path | None = None) -> Path:
    """Return the project's root: DAYBOOK_ROOT, or the nearest parent that looks like one."""
    try:
        here = Path(os.path.realpath(start or Path.cwd()))
    except OSError as err:
        raise SettingsError(
            "The current folder no longer exists.",
            expected="an existing folder",
            observed="a deleted folder",
            next="change into the project",
        ) from err
    if configured := os.environ.get("DAYBOOK_ROOT"):
        root = Path(os.path.realpath(configured))
        if os.path.isdir(root):
            return root
        raise SettingsError(
            "DAYBOOK_ROOT is not a folder.",
            expected="the folder with environments/ and terraform/",
            observed=types.shown(configured),
            next="correct DAYBOOK_ROOT, or unset it and change into the project",
        )
    for folder in (here, *here.parents):
        if (folder / "environments").is_dir() and (folder / "terraform").is_dir():
            return folder
    raise SettingsError(
        "This is not a Daybook project.",
        expected="environments/ and terraform/ in this folder or a parent",
        observed=str(here),
        next="change into the project, or set DAYBOOK_ROOT",
    )


def environments(root: Path) -> list[str]:
    """Return the names of the environments that have settings."""
    names = {path.stem for path in (root / "environments").glob("*.yml")}
    return sorted(names - {types.EXAMPLE})


def settings_file(root: Path, env: str) -> Path:
    """Return the settings file of an existing environment."""
    known = environments(root)
    if env not in known:
        raise SettingsError(
            f"Unknown environment {types.shown(env)}.",
            expected=" or ".join(known[:10]) or "a file in environments/",
            next=nearest_hint(env, known) or "use one of these, or run: daybook env new NAME",
        )
    require_name(env)
    return root / "environments" / f"{env}.yml"


def require_name(env: str) -> None:
    """Raise SettingsError unless an environment may have this name."""
    is_reserved = env in types.RESERVED_ENVIRONMENTS
    if is_reserved or not re.fullmatch(types.ENVIRONMENT, env):
        raise SettingsError(
            f"{types.shown(env)} is not a valid environment name.",
            expected="2 to 20 lower-case letters and digits, starting with a letter, such as demo",
            observed=f"{env} is reserved by Daybook or its tools" if is_reserved else None,
            next="choose another name",
        )


def nearest_hint(wrong: str, known: list[str]) -> str | None:
    """Return "did you mean …?" for a mistyped name, or None."""
    near = difflib.get_close_matches(wrong[:100], known, n=1)
    return f"did you mean {near[0]}?" if near else None
