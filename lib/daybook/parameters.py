"""The types of a notebook's parameters, which papermill and `-p` pass as text or YAML values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from daybook import bounded_yaml

LONGEST = 4_000
"""The largest number of characters of a parameter's text."""


def convert(kind: str, value: object) -> object:
    """Return a value as `bool`, `int`, `float` or `str`; ValueError or TypeError if invalid."""
    return _CONVERT.get(kind, _unchanged)(value)


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in {"true", "false", "yes", "no"}:
        raise ValueError
    return word in {"true", "yes"}


def _to_int(value: object) -> int:
    # `int` alone accepts Unicode digits, underscores and spaces.
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    if type(value) is not int:
        raise ValueError
    return value


def _to_float(value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value):
        return float(value)
    if isinstance(value, bool | str) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _to_str(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise ValueError
    if "\r" in value or bounded_yaml.UNSEEN.search(value):
        raise ValueError
    return value


def _unchanged(value: object) -> object:
    return _to_str(value) if isinstance(value, str) else value


_CONVERT: dict[str, Callable[[object], object]] = {
    "bool": _to_bool,
    "int": _to_int,
    "float": _to_float,
    "str": _to_str,
}
EXPECTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": f"text of at most {LONGEST:,} characters without control characters",
}
