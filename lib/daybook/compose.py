"""The application's compose file, held to a release's rules before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from daybook_release import rules


@dataclass(frozen=True)
class Compose:
    """A compose file. problems: why it cannot be released, each with its line and its fix."""

    problems: tuple[str, ...]
    wishes: rules.Wishes | None


def read(path: Path) -> Compose:
    """Read a compose file and hold it to the rules of a release."""
    text = path.read_text(encoding="utf-8")
    try:
        model = yaml.safe_load(text)
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        return Compose((f"{path.name}{where}: {getattr(err, 'problem', err)}",), None)
    if not isinstance(model, dict):
        return Compose((f"{path.name} line 1: it is empty; give it services",), None)
    found = tuple(problem.line(text) for problem in rules.problems(model))
    return Compose(found, rules.wishes(model))
