"""The application's compose file, held to a release's rules before anything is built."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from daybook_release import document, limits, names, rules


@dataclass(frozen=True)
class Compose:
    """A compose file. problems: why it cannot be released, each with its line and its fix."""

    problems: tuple[str, ...]
    wishes: rules.ReleaseOptions | None


def read(path: Path, secrets: Collection[str] | None = None) -> Compose:
    """Read a compose file and hold it to the rules of a release.

    secrets: names that the settings declare, to find a variable that nothing gives a value.
    """
    try:
        with path.open("rb") as file:
            text = file.read(limits.FILE_BYTES + 1).decode()
        read = document.read(text)
    except UnicodeDecodeError:
        return Compose((f"{path.name} line 1: this is not UTF-8; save it as UTF-8",), None)
    except document.InvalidComposeFile as err:
        return Compose((str(err),), None)
    found = rules.problems(read.tree)
    if secrets is not None:
        found += rules.unknown(read.tree, {*names.OWN, *secrets})
    return Compose(tuple(problem.line(read) for problem in found), rules.release_options(read.tree))
