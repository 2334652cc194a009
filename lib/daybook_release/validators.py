"""Checks of a compose file's values, from which rules.py puts its allow-lists together.

A check gives the problems of what stands at a path. Null says nothing, so it is always allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook_release import limits
from daybook_release.document import ComposeDocument, Path, shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""No option begins like this, and it is a name to Compose, Docker and DNS."""
DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us))+")
UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001}

FIXES = {
    "configs": "put the file into the image, or the value into environment:",
    "devices": "a container gets no device of the host",
    "driver_opts": "remove it: a release brings its image alone",
    "extends": "write the service out, or share keys with a YAML anchor",
    "external_links": "use a service of this file",
    "extra_hosts": "put the address into environment:",
    "include": "write these services into this file",
    "label_file": "write the labels out",
    "links": "services reach each other by their names",
    "post_start": "do it in the image's entrypoint",
    "secrets": "a release gives secrets by environment:",
}


@dataclass(frozen=True)
class ComposeProblem:
    """One reason to refuse a file, where it is and how to correct it."""

    path: Path
    message: str
    fix: str

    def line(self, document: ComposeDocument) -> str:
        """Return the problem as one line, with the line of the file that it is about."""
        return f"compose.yaml line {document.line_of(self.path)}: {self.message}; {self.fix}"


@dataclass(frozen=True)
class RenderedValues:
    """What stands in a file that is filled in: the project, the image, the slot and its port.

    taken: ports of the host that belong to something else.
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


def number(least: int, most: int) -> Validator:
    fix = f"write a whole number from {least} to {most}"

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        whole_output = not isinstance(value, bool) and re.fullmatch(r"-?[0-9]{1,15}", str(value))
        if value is not None and not (whole_output and least <= int(value) <= most):
            yield wrong(path, fix)

    return check


def duration(most_s: float, least_s: float = 0) -> Validator:
    """Check a duration; 0s is Docker's own value, and always allowed."""

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        length_s = seconds(value)
        if length_s is None:
            yield ComposeProblem(path, f"{key_of(path)} is not a duration", "write one such as 30s")
        elif length_s > most_s:
            message = f"{key_of(path)} is longer than the limit of {most_s:.0f} s"
            yield ComposeProblem(path, message, "shorten it; docs/releases.md lists the limits")
        elif 0 < length_s < least_s:
            message = f"{key_of(path)} is shorter than {least_s:g} s"
            yield ComposeProblem(
                path, message, "lengthen it: each check is a process that the host starts"
            )

    return check


def any_text(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    if isinstance(value, (list, Mapping)):
        yield wrong(path, "write one value")


def anything(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    """Accept what is left out of the file that runs."""
    yield from ()


def list_of(check_one: Validator, most: int = limits.NODES) -> Validator:
    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if not isinstance(value, list):
            yield wrong(path, "write a list")
            return
        if len(value) > most:
            yield ComposeProblem(
                path, f"{key_of(path)} has more than {most} entries", "remove some"
            )
        for at, each in enumerate(value):
            yield from check_one(each, (*path, at), rendered)

    return check


def one_or_list_of(check_one: Validator) -> Validator:
    check_each = list_of(check_one)

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        yield from (check_each if isinstance(value, list) else check_one)(value, path, rendered)

    return check


def table(keys: Mapping[str, Validator], *, extensions: bool = False) -> Validator:
    """Check a mapping with these keys alone. extensions: it may have x- keys, which are dropped."""

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if not isinstance(value, Mapping):
            yield wrong(path, f"write a mapping of {', '.join(sorted(keys)[:6])}")
            return
        for key, each in value.items():
            if key in keys:
                yield from keys[key](each, (*path, key), rendered)
            elif not (extensions and key.startswith("x-")) and _says_something(each):
                yield not_allowed((*path, key))

    return check


def named(pattern: re.Pattern[str], check_one: Validator, most: int = limits.NODES) -> Validator:
    """Check a mapping whose keys are names."""

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if not isinstance(value, Mapping):
            yield wrong(path, "write a mapping")
            return
        if len(value) > most:
            yield ComposeProblem(
                path, f"{key_of(path)} has more than {most} entries", "remove some"
            )
        for key, each in value.items():
            if not pattern.fullmatch(key):
                message = f"{shown(key)} is not a name that is allowed here"
                yield ComposeProblem(
                    (*path, key), message, "begin with a letter or digit; go on with _.-"
                )
            yield from check_one(each, (*path, key), rendered)

    return check


def pairs(pattern: str, fix: str) -> Validator:
    """Check what is a mapping, or a list of NAME=value; the pattern is that of a name."""
    form = re.compile(pattern, re.ASCII)

    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        if value is None:
            return
        if isinstance(value, list):
            for at, each in enumerate(value):
                name = each.partition("=")[0] if isinstance(each, str) else ""
                if not form.fullmatch(name):
                    yield ComposeProblem((*path, at), f"{shown(name)} is not allowed here", fix)
        elif isinstance(value, Mapping):
            for name, each in value.items():
                if not form.fullmatch(name) or isinstance(each, (list, Mapping)):
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


def _says_something(value: Any) -> bool:
    return not (value is None or value is False or value == [] or value == {})


def seconds(text: object) -> float | None:
    """Return a duration as Compose writes it, such as 1m30s; None when it is none."""
    if not isinstance(text, str) or not DURATION.fullmatch(text):
        return None
    parts = re.findall(r"([0-9.]+)(h|ms|m|s|us)", text)
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def not_allowed(path: Path) -> ComposeProblem:
    key = path[-1]
    if path[0] == "x-release":
        fix = "it knows web, health, version, migrate and drain"
        return ComposeProblem(path, f"x-release has no {shown(key)}", fix)
    within = f"in {key_of(path[:-1])}" if len(path) > 1 else "here"
    return ComposeProblem(
        path, f"{shown(key)} is not allowed {within}", FIXES.get(key, "remove it")
    )


def wrong(path: Path, fix: str) -> ComposeProblem:
    return ComposeProblem(path, f"{key_of(path)} has a value that is not allowed", fix)


def key_of(path: Path) -> str:
    """Return what a path is about: its last key that is a name."""
    return next((shown(key) for key in reversed(path) if isinstance(key, str)), "the file")
