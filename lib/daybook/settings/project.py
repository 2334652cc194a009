"""The project's root, and the names of its environments."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from daybook.errors import SettingsError
from daybook.settings import types

NOTEBOOKS = ("notebooks", "runbooks")
"""Where the steps' notebooks are."""


def find_root(start: Path | None = None) -> Path:
    """Return the project's root: DAYBOOK_ROOT, or the nearest parent that looks like one."""
    try:
        here = Path(os.path.realpath(start or Path.cwd()))
    except OSError as err:
        raise SettingsError(
            "The current folder does not exist any more.",
            expected="a folder to work in",
            observed="a folder that was deleted",
            next="change into the project",
        ) from err
    if configured := os.environ.get("DAYBOOK_ROOT"):
        root = Path(os.path.realpath(configured))
        if os.path.isdir(root):
            return root
        raise SettingsError(
            "DAYBOOK_ROOT is no folder.",
            expected="the folder that holds environments/ and terraform/",
            observed=types.shown(configured),
            next="correct DAYBOOK_ROOT, or unset it in the project's folder",
        )
    for folder in (here, *here.parents):
        if (folder / "environments").is_dir() and (folder / "terraform").is_dir():
            return folder
    raise SettingsError(
        "This is not a Daybook project.",
        expected="a folder that holds environments/ and terraform/, or one above it",
        observed=str(here),
        next="change into the project, or set DAYBOOK_ROOT",
    )


def environments(root: Path) -> list[str]:
    """Return the names of the environments that have settings."""
    names = {path.stem for path in (root / "environments").glob("*.yml")}
    return sorted(names - {types.EXAMPLE})


def settings_file(root: Path, env: str) -> Path:
    """Return the file of an environment that exists."""
    known = environments(root)
    if env not in known:
        raise SettingsError(
            f"Unknown environment {types.shown(env)}.",
            expected=" or ".join(known[:10]) or "a file in environments/",
            next=nearest_hint(env, known) or "choose one of these, or: daybook env new NAME",
        )
    require_name(env)
    return root / "environments" / f"{env}.yml"


def require_name(env: str) -> None:
    """Raise SettingsError when an environment cannot be called so."""
    is_reserved = env in types.RESERVED_ENVIRONMENTS
    if is_reserved or not re.fullmatch(types.ENVIRONMENT, env):
        raise SettingsError(
            f"{types.shown(env)} cannot be an environment's name.",
            expected="2 to 20 lower-case letters and digits, a letter first, such as demo",
            observed=f"{env} is reserved by Daybook or its tools" if is_reserved else None,
            next="choose another name",
        )


def nearest_hint(wrong: str, known: list[str]) -> str | None:
    """Return "did you mean …?" for a mistyped name, or None."""
    near = difflib.get_close_matches(wrong[:100], known, n=1)
    return f"did you mean {near[0]}?" if near else None
