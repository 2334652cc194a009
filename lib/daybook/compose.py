"""Validate the application's compose file against the rules of a release, before a build."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from daybook_release import document, limits, names, rules


@dataclass(frozen=True)
class Compose:
    """A compose file. problems: the violated rules, each with line and fix."""

    problems: tuple[str, ...]
    wishes: rules.ReleaseOptions | None


def read(path: Path, secrets: Collection[str] | None = None) -> Compose:
    """Read a compose file and check it against the rules of a release.

    secrets: names declared in the settings, to detect variables without a value.
    """
    try:
        with path.open("rb") as file:
            text = file.read(limits.FILE_BYTES + 1).decode()
        read = document.read(text)
    except UnicodeDecodeError:
        return Compose((f"{path.name} line 1: not UTF-8; save the file as UTF-8",), None)
    except document.InvalidComposeFile as err:
        return Compose((str(err),), None)
    problems = rules.problems(read.tree)
    if secrets is not None:
        problems += rules.unknown(read.tree, {*names.OWN, *secrets})
    return Compose(
        tuple(problem.line(read) for problem in problems), rules.release_options(read.tree)
    )
