"""The application's compose file, held to a release's rules before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from daybook_release import document, limits, rules


@dataclass(frozen=True)
class Compose:
    """A compose file. problems: why it cannot be released, each with its line and its fix."""

    problems: tuple[str, ...]
    wishes: rules.Wishes | None


def read(path: Path) -> Compose:
    """Read a compose file and hold it to the rules of a release."""
    try:
        with path.open("rb") as file:
            text = file.read(limits.FILE_BYTES + 1).decode()
        read = document.read(text)
    except UnicodeDecodeError:
        return Compose((f"{path.name} line 1: this is not UTF-8; save it as UTF-8",), None)
    except document.Unreadable as err:
        return Compose((str(err),), None)
    found = tuple(problem.line(read) for problem in rules.problems(read.tree))
    return Compose(found, rules.wishes(read.tree))
