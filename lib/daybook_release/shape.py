"""Checks of a compose file's values, from which rules.py puts its allow-lists together.

A check gives the problems of what stands at a path. Null says nothing, so it is always allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook_release import limits
from daybook_release.document import Document, Path, shown

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
class Problem:
    """One reason to refuse a file, where it is and how to correct it."""

    path: Path
    says: str
    fix: str

    def line(self, document: Document) -> str:
        """Return the problem as one line, with the line of the file that it is about."""
        return f"compose.yaml line {document.line_of(self.path)}: {self.says}; {self.fix}"


@dataclass(frozen=True)
class Final:
    """What stands in a file that is filled in: the project, the image, the slot and its port.

    taken: ports of the host that belong to something else.
    """

    app: str
    image: str
    web: str
    port: int
    taken: Collection[int] = ()


Check = Callable[[Any, Path, Final | None], Iterator[Problem]]


def text(pattern: str, fix: str) -> Check:
    form = re.compile(pattern, re.ASCII)

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        is_scalar = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        if value is not None and not (is_scalar and form.fullmatch(str(value))):
            yield wrong(path, fix)

    return check


def one_of(*values: object, fix: str = "") -> Check:
    fix = fix or f"write {' or '.join(str(value) for value in values)}"

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        if value is not None and not any(value == v and type(value) is type(v) for v in values):
            yield wrong(path, fix)

    return check


def number(least: int, most: int) -> Check:
    fix = f"write a whole number from {least} to {most}"

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        is_whole = not isinstance(value, bool) and re.fullmatch(r"-?[0-9]{1,15}", str(value))
        if value is not None and not (is_whole and least <= int(value) <= most):
            yield wrong(path, fix)

    return check


def duration(most_s: float, least_s: float = 0) -> Check:
    """Check a duration; 0s is Docker's own value, and always allowed."""

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        if value is None:
            return
        length_s = seconds(value)
        if length_s is None:
            yield Problem(path, f"{key_of(path)} is not a duration", "write one such as 30s")
        elif length_s > most_s:
            says = f"{key_of(path)} is longer than the limit of {most_s:.0f} s"
            yield Problem(path, says, "shorten it; docs/releases.md lists the limits")
        elif 0 < length_s < least_s:
            says = f"{key_of(path)} is shorter than {least_s:g} s"
            yield Problem(path, says, "lengthen it: each check is a process that the host starts")

    return check


def any_text(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
    if isinstance(value, (list, Mapping)):
        yield wrong(path, "write one value")


def anything(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
    """Accept what is left out of the file that runs."""
    yield from ()


def list_of(check_one: Check, most: int = limits.NODES) -> Check:
    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        if value is None:
            return
        if not isinstance(value, list):
            yield wrong(path, "write a list")
            return
        if len(value) > most:
            yield Problem(path, f"{key_of(path)} has more than {most} entries", "remove some")
        for at, each in enumerate(value):
            yield from check_one(each, (*path, at), final)

    return check


def one_or_list_of(check_one: Check) -> Check:
    check_each = list_of(check_one)

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        yield from (check_each if isinstance(value, list) else check_one)(value, path, final)

    return check


def table(keys: Mapping[str, Check], *, extensions: bool = False) -> Check:
    """Check a mapping with these keys alone. extensions: it may have x- keys, which are dropped."""

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        if value is None:
            return
        if not isinstance(value, Mapping):
            yield wrong(path, f"write a mapping of {', '.join(sorted(keys)[:6])}")
            return
        for key, each in value.items():
            if key in keys:
                yield from keys[key](each, (*path, key), final)
            elif not (extensions and key.startswith("x-")) and _says_something(each):
                yield not_allowed((*path, key))

    return check


def named(pattern: re.Pattern[str], check_one: Check, most: int = limits.NODES) -> Check:
    """Check a mapping whose keys are names."""

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        if value is None:
            return
        if not isinstance(value, Mapping):
            yield wrong(path, "write a mapping")
            return
        if len(value) > most:
            yield Problem(path, f"{key_of(path)} has more than {most} entries", "remove some")
        for key, each in value.items():
            if not pattern.fullmatch(key):
                says = f"{shown(key)} is not a name that is allowed here"
                yield Problem((*path, key), says, "begin with a letter or digit; go on with _.-")
            yield from check_one(each, (*path, key), final)

    return check


def pairs(pattern: str, fix: str) -> Check:
    """Check what is a mapping, or a list of NAME=value; the pattern is that of a name."""
    form = re.compile(pattern, re.ASCII)

    def check(value: Any, path: Path, final: Final | None) -> Iterator[Problem]:
        if value is None:
            return
        if isinstance(value, list):
            for at, each in enumerate(value):
                name = each.partition("=")[0] if isinstance(each, str) else ""
                if not form.fullmatch(name):
                    yield Problem((*path, at), f"{shown(name)} is not allowed here", fix)
        elif isinstance(value, Mapping):
            for name, each in value.items():
                if not form.fullmatch(name) or isinstance(each, (list, Mapping)):
                    yield Problem((*path, name), f"{shown(name)} is not allowed here", fix)
        else:
            yield wrong(path, "write a mapping")

    return check


def names_of(value: Any, path: Path, final: Final | None, options: Mapping[str, Check]) -> Iterator:
    """Check a list of names, or a mapping of names to options."""
    if isinstance(value, Mapping):
        yield from named(NAME, table(options))(value, path, final)
    else:
        yield from list_of(text(NAME.pattern, "write a name"))(value, path, final)


def _says_something(value: Any) -> bool:
    return not (value is None or value is False or value == [] or value == {})


def seconds(text: object) -> float | None:
    """Return a duration as Compose writes it, such as 1m30s; None when it is none."""
    if not isinstance(text, str) or not DURATION.fullmatch(text):
        return None
    parts = re.findall(r"([0-9.]+)(h|ms|m|s|us)", text)
    return sum(float(number) * UNITS_S[unit] for number, unit in parts)


def not_allowed(path: Path) -> Problem:
    key = path[-1]
    if path[0] == "x-release":
        fix = "it knows web, health, version, migrate and drain"
        return Problem(path, f"x-release has no {shown(key)}", fix)
    within = f"in {key_of(path[:-1])}" if len(path) > 1 else "here"
    return Problem(path, f"{shown(key)} is not allowed {within}", FIXES.get(key, "remove it"))


def wrong(path: Path, fix: str) -> Problem:
    return Problem(path, f"{key_of(path)} has a value that is not allowed", fix)


def key_of(path: Path) -> str:
    """Return what a path is about: its last key that is a name."""
    return next((shown(key) for key in reversed(path) if isinstance(key, str)), "the file")
