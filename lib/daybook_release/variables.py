"""Substitute `${NAME}` in a compose file with Compose's grammar, instead of Compose.

So a value is never an environment variable of a program that root runs.
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
MAX_NESTING = 4


@dataclass(frozen=True)
class Variable:
    """One `${NAME}`. operator: "", -, ?, + or a colon and one of these; rest: its operand."""

    name: str
    operator: str = ""
    rest: tuple[str | Variable, ...] = ()

    @property
    def is_required(self) -> bool:
        return self.operator in ("", "?", ":?")


Parts = tuple[str | Variable, ...]


def parse(text: str) -> Parts:
    """Return the parts of a text; raise ValueError if a variable is malformed."""
    parts, at = _parts(text, 0, PLAIN, 0)
    if at != len(text):
        raise ValueError("malformed variable")
    return parts


def has_any(text: str) -> bool:
    """Tell whether a text has a variable, or a $ that is not escaped as $$."""
    return "$" in text.replace("$$", "")


def required(text: str) -> set[str]:
    """Return the names of the variables in a text that must have a value."""
    return {variable.name for variable in _variables(parse(text)) if variable.is_required}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables substituted; raise KeyError if one has no value."""
    return _fill_parts(parse(text), values)


def render(tree: Any, values: Mapping[str, str]) -> Any:
    """Return a compose file's data with all variables substituted and every other $ escaped.

    An entry of `environment` without a value gets the value of the variable with its name.
    """
    if isinstance(tree, str):
        return fill(tree, values).replace("$", "$$")
    if isinstance(tree, list):
        return [render(item, values) for item in tree]
    if not isinstance(tree, Mapping):
        return tree
    return {
        key: _environment(value, values)
        if key == "environment" and isinstance(value, (list, Mapping))
        else render(value, values)
        for key, value in tree.items()
    }


def mapping(pairs: Any) -> dict[str, Any]:
    """Return a mapping from a mapping or a list of NAME=value."""
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
        if match := plain.match(text, at):
            parts.append("$" if match[0] == "$$" else match[0])
        elif match := NAMED.match(text, at):
            parts.append(Variable(match[1]))
        elif (match := BRACED.match(text, at)) and depth < MAX_NESTING:
            rest, end = _parts(text, match.end(), INSIDE, depth + 1)
            if text[end : end + 1] != "}":
                raise ValueError("malformed variable")
            parts.append(Variable(match[1], match[2], rest))
            at = end + 1
            continue
        else:
            break
        at = match.end()
    return tuple(parts), at


def _variables(parts: Parts) -> Iterator[Variable]:
    for part in parts:
        if isinstance(part, Variable):
            yield part
            yield from _variables(part.rest)


def _fill_parts(parts: Parts, values: Mapping[str, str]) -> str:
    return "".join(p if isinstance(p, str) else _value(p, values) for p in parts)


def _value(variable: Variable, values: Mapping[str, str]) -> str:
    value = values.get(variable.name)
    is_set = bool(value) if variable.operator.startswith(":") else value is not None
    if variable.operator.endswith("+"):
        return _fill_parts(variable.rest, values) if is_set else ""
    if is_set:
        return str(value)
    if variable.operator.endswith("-"):
        return _fill_parts(variable.rest, values)
    raise KeyError(variable.name)
