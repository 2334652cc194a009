"""Validators for the values of a compose file, which rules.py combines into allow-lists.

A validator yields the problems of the value at a path. Null is always allowed: it sets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook_release import limits
from daybook_release.document import ComposeDocument, Path, shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""Never a command-line option, and a valid name for Compose, Docker and DNS."""
DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us))+")
UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001}

FIXES = {
    "configs": "put the file into the image, or the value into environment:",
    "devices": "remove it: a container gets no device of the host",
    "driver_opts": "remove it: a release has only its image",
    "extends": "write the full service, or share keys with a YAML anchor",
    "external_links": "use a service of this file",
    "extra_hosts": "put the address into environment:",
    "include": "define these services in this file",
    "label_file": "write the labels in this file",
    "links": "remove it: services reach each other by name",
    "post_start": "do it in the image's entrypoint",
    "secrets": "use environment:, which a release fills with secrets",
}


@dataclass(frozen=True)
class ComposeProblem:
    """A reason to refuse a file, its location and the fix."""

    path: Path
    message: str
    fix: str

    def line(self, document: ComposeDocument) -> str:
        """Return the problem as one line of text, with its line number in the file."""
        return f"compose.yaml line {document.line_of(self.path)}: {self.message}; {self.fix}"


@dataclass(frozen=True)
class RenderedValues:
    """The values that a rendered model must have. web: the name of the slot's service.

    taken: the ports on the host that are reserved.
    """

    app: str
    image: str
    web: str
    port: int
    taken: Collection[int] = ()


Validator = Callable[[Any, Path, RenderedValues | None], Iterator[ComposeProblem]]


def text(pattern: str, fix: str) -> Validator:
    form = re.compile(pattern, re.ASCII)

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        is_scalar = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        if value is not None and not (is_scalar and form.fullmatch(str(value))):
            yield wrong(path, fix)

    return check


def one_of(*values: object, fix: str = "") -> Validator:
    fix = fix or f"write {' or '.join(str(value) for value in values)}"

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is not None and not any(value == v and type(value) is type(v) for v in values):
            yield wrong(path, fix)

    return check


def number(minimum: int, maximum: int) -> Validator:
    fix = f"write a whole number from {minimum} to {maximum}"

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        whole_output = not isinstance(value, bool) and re.fullmatch(r"-?[0-9]{1,15}", str(value))
        if value is not None and not (whole_output and minimum <= int(value) <= maximum):
            yield wrong(path, fix)

    return check


def duration(maximum_s: float, minimum_s: float = 0) -> Validator:
    """Check a duration; 0s is always allowed, because Docker replaces it by its default."""

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        length_s = seconds(value)
        if length_s is None:
            yield ComposeProblem(path, f"{key_of(path)} is not a duration", "write one such as 30s")
        elif length_s > maximum_s:
            message = f"{key_of(path)} exceeds the limit of {maximum_s:.0f} s"
            yield ComposeProblem(path, message, "shorten it; docs/releases.md lists the limits")
        elif 0 < length_s < minimum_s:
            message = f"{key_of(path)} is shorter than {minimum_s:g} s"
            yield ComposeProblem(
                path, message, "increase it: the host starts a process for each check"
            )

    return check


def any_text(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    if isinstance(value, (list, Mapping)):
        yield wrong(path, "write one value")


def anything(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    """Accept any value: this key is not in the rendered model, or is checked elsewhere."""
    yield from ()


def list_of(check_item: Validator, maximum: int = limits.NODES) -> Validator:
    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if not isinstance(value, list):
            yield wrong(path, "write a list")
            return
        if len(value) > maximum:
            yield ComposeProblem(
                path, f"{key_of(path)} has more than {maximum} entries", "remove some"
            )
        for index, item in enumerate(value):
            yield from check_item(item, (*path, index), rendered)

    return check


def one_or_list_of(check_item: Validator) -> Validator:
    check_list = list_of(check_item)

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        yield from (check_list if isinstance(value, list) else check_item)(value, path, rendered)

    return check


def table(keys: Mapping[str, Validator], *, extensions: bool = False) -> Validator:
    """Check a mapping with only these keys. extensions: x- keys are allowed and ignored."""

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if not isinstance(value, Mapping):
            yield wrong(path, f"write a mapping of {', '.join(sorted(keys)[:6])}")
            return
        for key, item in value.items():
            if key in keys:
                yield from keys[key](item, (*path, key), rendered)
            elif not (extensions and key.startswith("x-")) and _is_set(item):
                yield not_allowed((*path, key))

    return check


def named(
    pattern: re.Pattern[str], check_item: Validator, maximum: int = limits.NODES
) -> Validator:
    """Check a mapping of names to values."""

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if not isinstance(value, Mapping):
            yield wrong(path, "write a mapping")
            return
        if len(value) > maximum:
            yield ComposeProblem(
                path, f"{key_of(path)} has more than {maximum} entries", "remove some"
            )
        for key, item in value.items():
            if not pattern.fullmatch(key):
                message = f"{shown(key)} is not allowed as a name here"
                yield ComposeProblem(
                    (*path, key),
                    message,
                    "begin with a letter or digit, then use letters, digits and _.-",
                )
            yield from check_item(item, (*path, key), rendered)

    return check


def pairs(pattern: str, fix: str) -> Validator:
    """Check a mapping, or a list of NAME=value. pattern: matches a name."""
    form = re.compile(pattern, re.ASCII)

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if isinstance(value, list):
            for index, pair in enumerate(value):
                name = pair.partition("=")[0] if isinstance(pair, str) else ""
                if not form.fullmatch(name):
                    yield ComposeProblem((*path, index), f"{shown(name)} is not allowed here", fix)
        elif isinstance(value, Mapping):
            for name, item in value.items():
                if not form.fullmatch(name) or isinstance(item, (list, Mapping)):
                    yield ComposeProblem((*path, name), f"{shown(name)} is not allowed here", fix)
        else:
            yield wrong(path, "write a mapping")

    return check


def names_of(
    value: Any, path: Path, rendered: RenderedValues | None, options: Mapping[str, Validator]
) -> Iterator:
    """Check a list of names, or a mapping of names to options."""
    if isinstance(value, Mapping):
        yield from named(NAME, table(options))(value, path, rendered)
    else:
        yield from list_of(text(NAME.pattern, "write a name"))(value, path, rendered)


def _is_set(value: Any) -> bool:
    return not (value is None or value is False or value == [] or value == {})


def seconds(text: object) -> float | None:
    """Parse a duration in Compose's format, such as 1m30s; return None if it is not valid."""
    if not isinstance(text, str) or not DURATION.fullmatch(text):
        return None
    parts = re.findall(r"([0-9.]+)(h|ms|m|s|us)", text)
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def not_allowed(path: Path) -> ComposeProblem:
    key = path[-1]
    if path[0] == "x-release":
        fix = "its keys are web, health, version, migrate and drain"
        return ComposeProblem(path, f"x-release has no {shown(key)}", fix)
    within = f"in {key_of(path[:-1])}" if len(path) > 1 else "here"
    return ComposeProblem(
        path, f"{shown(key)} is not allowed {within}", FIXES.get(key, "remove it")
    )


def wrong(path: Path, fix: str) -> ComposeProblem:
    return ComposeProblem(path, f"{key_of(path)} has a value that is not allowed", fix)


def key_of(path: Path) -> str:
    """Return the last key of a path that is a name."""
    return next((shown(key) for key in reversed(path) if isinstance(key, str)), "the file")
