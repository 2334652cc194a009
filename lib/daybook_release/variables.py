"""`${NAME}` in a compose file, with Compose's grammar, filled in here and not by Compose.

So a value never becomes a variable of a program that root runs.
https://docs.docker.com/reference/compose-file/interpolation/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PLAIN = re.compile(r"[^$]+|\$\$")
NAMED = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
BRACED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(:?[-?+]|(?=\}))")
INSIDE = re.compile(r"[^$}]+|\$\$")
NESTED = 4


@dataclass(frozen=True)
class Variable:
    """One `${NAME}`. operator: "", -, ?, + or one of these after a colon; rest: what follows it."""

    name: str
    operator: str = ""
    rest: tuple[str | Variable, ...] = ()

    @property
    def is_required(self) -> bool:
        return self.operator in ("", "?", ":?")


Parts = tuple[str | Variable, ...]


def parse(text: str) -> Parts:
    """Return the parts of a text; ValueError when its variables are malformed."""
    parts, at = _parts(text, 0, PLAIN, 0)
    if at != len(text):
        raise ValueError("malformed variable")
    return parts


def has_any(text: str) -> bool:
    """Tell whether a text has a variable, or a $ that is not doubled."""
    return "$" in text.replace("$$", "")


def required(text: str) -> set[str]:
    """Return the variables of a text that must have a value."""
    return {each.name for each in _variables(parse(text)) if each.is_required}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables filled in; KeyError when one has no value."""
    return _filled(parse(text), values)


def render(tree: Any, values: Mapping[str, str]) -> Any:
    """Return a compose file's data with every variable filled in and nothing left to fill in.

    A variable of an environment without a value of its own gets the one it is named after.
    """
    if isinstance(tree, str):
        return fill(tree, values).replace("$", "$$")
    if isinstance(tree, list):
        return [render(each, values) for each in tree]
    if not isinstance(tree, Mapping):
        return tree
    return {
        key: _environment(value, values)
        if key == "environment" and isinstance(value, (list, Mapping))
        else render(value, values)
        for key, value in tree.items()
    }


def mapping(pairs: Any) -> dict[str, Any]:
    """Return what may be written as a list of NAME=value too."""
    if isinstance(pairs, Mapping):
        return dict(pairs)
    split = (str(pair).partition("=") for pair in pairs or ())
    return {name: value if equals else None for name, equals, value in split}


def _environment(entries: Any, values: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: values[name].replace("$", "$$") if value is None else render(value, values)
        for name, value in mapping(entries).items()
    }


def _parts(text: str, at: int, plain: re.Pattern[str], depth: int) -> tuple[Parts, int]:
    parts: list[str | Variable] = []
    while at < len(text):
        if found := plain.match(text, at):
            parts.append("$" if found[0] == "$$" else found[0])
        elif found := NAMED.match(text, at):
            parts.append(Variable(found[1]))
        elif (found := BRACED.match(text, at)) and depth < NESTED:
            rest, end = _parts(text, found.end(), INSIDE, depth + 1)
            if text[end : end + 1] != "}":
                raise ValueError("malformed variable")
            parts.append(Variable(found[1], found[2], rest))
            at = end + 1
            continue
        else:
            break
        at = found.end()
    return tuple(parts), at


def _variables(parts: Parts) -> Iterator[Variable]:
    for part in parts:
        if isinstance(part, Variable):
            yield part
            yield from _variables(part.rest)


def _filled(parts: Parts, values: Mapping[str, str]) -> str:
    return "".join(p if isinstance(p, str) else _value(p, values) for p in parts)


def _value(variable: Variable, values: Mapping[str, str]) -> str:
    value = values.get(variable.name)
    is_there = bool(value) if variable.operator.startswith(":") else value is not None
    if variable.operator.endswith("+"):
        return _filled(variable.rest, values) if is_there else ""
    if is_there:
        return str(value)
    if variable.operator.endswith("-"):
        return _filled(variable.rest, values)
    raise KeyError(variable.name)
