"""Parse untrusted YAML in bounded time, as plain values with their lines.

Values are those of JSON. Values that YAML 1.1 reads in a surprising way are rejected with a remedy
(`020` means 16, `1:20` means 80); a date stays text. The tree is built from parser events, so
every limit is enforced before any composition.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from daybook.errors import SYSTEM_ERRORS, SettingsError, explained

MAX_BYTES = 64 * 1024
MAX_DEPTH = 12
MAX_NODES = 4_000

Key = tuple[str | int, ...]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TYPES = yaml.SafeLoader.yaml_implicit_resolvers
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{1,18}")
UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
)
"""Control characters, surrogates, line separators, and characters that are invisible or change the
direction of text; not the joiners, which some scripts and emoji require."""
_KEY = re.compile(r"([ -]*)([A-Za-z0-9_.-]{1,64}):(?:\s|$)")


class Problem(Exception):
    """A problem with a text; the message never quotes it. line: counted from 1."""

    def __init__(self, problem: str, line: int = 1, key: Key = ()) -> None:
        super().__init__(problem)
        self.problem, self.line, self.key = problem, line, key


@dataclass(frozen=True)
class Document:
    """A parsed text. lines: `{("instance", "type"): 12}`; the root is `()`."""

    tree: Any
    lines: dict[Key, int]


@dataclass
class _Node:
    """A mapping or list in progress. key: a mapping's key until its value is read."""

    value: dict | list
    at: Key
    key: str | None = None

    def next_key(self) -> Key:
        return (*self.at, self.key if isinstance(self.value, dict) else len(self.value))

    def add(self, value: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value[self.key], self.key = value, None

    @property
    def wants_key(self) -> bool:
        return isinstance(self.value, dict) and self.key is None


@dataclass
class _Builder:
    """Builds the tree from events, with an explicit stack instead of recursion."""

    max_depth: int
    max_nodes: int
    tree: Any = None
    lines: dict[Key, int] = field(default_factory=dict)
    nodes: int = 0
    stack: list[_Node] = field(default_factory=list)

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.NodeEvent):
            self._node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.DocumentStartEvent) and self.lines:
            raise Problem("a second document; only one is allowed", _line(event))

    def _node(self, event: yaml.NodeEvent) -> None:
        line, parent = _line(event), self.stack[-1] if self.stack else None
        at = (parent.at if parent.wants_key else parent.next_key()) if parent else ()
        self.nodes += 1
        if self.nodes > self.max_nodes:
            raise Problem(f"more than {self.max_nodes:,} values", line)
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise Problem(
                "anchors (&) and aliases (*) are not supported; repeat the value", line, at
            )
        if event.tag is not None:
            raise Problem("tags (!) are not supported; write a plain value", line, at)
        if parent and parent.wants_key:
            parent.key = self._key(event, line, parent)
            return
        self.lines.setdefault(at, line)
        if isinstance(event, yaml.ScalarEvent):
            self._put(parent, _scalar(event, line, at))
            return
        if len(self.stack) == self.max_depth:
            raise Problem(f"nested deeper than {self.max_depth} levels", line, at)
        value: dict | list = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._put(parent, value)
        self.stack.append(_Node(value, at))

    def _put(self, parent: _Node | None, value: Any) -> None:
        if parent is None:
            self.tree = value
        else:
            parent.add(value)

    def _key(self, event: yaml.NodeEvent, line: int, parent: _Node) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise Problem("a key must be text", line, parent.at)
        if event.implicit[0] and _kind(event.value) == "merge":
            raise Problem("merge keys (<<) are not supported; repeat the values", line, parent.at)
        key = _scalar(event, line, parent.at)
        if not isinstance(key, str):
            raise Problem("a key must be text; write it in quotes", line, parent.at)
        at = (*parent.at, key)
        if key in parent.value:
            raise Problem("this key is set twice", line, at)
        self.lines[at] = line
        return key


def parse(text: str, *, max_depth: int = MAX_DEPTH, max_nodes: int = MAX_NODES) -> Document:
    """Parse a text; Problem with the line if it is not YAML or exceeds a limit."""
    builder = _Builder(max_depth, max_nodes)
    for event in _events(text):
        builder.take(event)
    return Document(builder.tree, builder.lines)


def read_text(path: Path, *, max_bytes: int = MAX_BYTES, follow: bool = True) -> str:
    """Return a regular file's UTF-8 text; Problem if it is not one, or too large.

    follow: whether the file itself may be a symbolic link.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        if not follow and os.path.islink(path):
            raise Problem("a symbolic link; expected a regular file")
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Problem("not a regular file")
            raw = file.read(max_bytes + 1)
    except IsADirectoryError:
        raise Problem("a directory; expected a regular file") from None
    except (OSError, ValueError) as err:
        if not isinstance(err, FileNotFoundError) and getattr(err, "errno", 0) in SYSTEM_ERRORS:
            raise explained(err, cls=SettingsError, folder=path.parent) from err
        raise Problem(getattr(err, "strerror", None) or "not a path") from None
    if len(raw) > max_bytes:
        text = raw.decode("utf-8", "replace")
        line = text.count("\n") + 1
        problem = f"the file is larger than the limit of {max_bytes // 1024} KiB"
        raise Problem(problem, line, _key_near(text, line))
    return decode(raw)


def decode(raw: bytes) -> str:
    """Decode UTF-8; Problem with the line of the first invalid byte."""
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as err:
        before = raw[: err.start].decode("utf-8")
        line = before.count("\n") + 1
        raise Problem(
            "not UTF-8 text; save the file as UTF-8", line, _key_near(before, line)
        ) from None


def _events(text: str) -> Iterator[yaml.Event]:
    """Yield the parser's events; convert errors to Problem without the text that they may quote."""
    if invisible := UNSEEN.search(text):
        line = text.count("\n", 0, invisible.start()) + 1
        raise Problem("a control or invisible character; remove it", line, _key_near(text, line))
    try:
        yield from yaml.parse(text, Loader=LOADER)
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark or err.context_mark
        line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else 1
        raise Problem(_syntax(err.problem), line, _key_near(text, line)) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        raise Problem("not valid YAML; write `key: value`") from None


def _key_near(text: str, line: int) -> Key:
    """Return the key of a line in block style, by indentation; () if unclear."""
    keys: list[str] = []
    indent = 1_000
    for text_line in reversed(text.split("\n")[:line]):
        if (key := _KEY.match(text_line)) and len(key[1]) < indent:
            keys, indent = [key[2], *keys], len(key[1])
        if indent == 0:
            break
    return tuple(keys)


def _scalar(event: yaml.ScalarEvent, line: int, at: Key) -> Any:
    """Return a scalar's value."""
    text = event.value
    if "\r" in text or UNSEEN.search(text):
        raise Problem("a control or invisible character; remove it", line, at)
    if not event.implicit[0]:
        return text
    kind = _kind(text)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    if kind in ("int", "float"):
        return _number(text, line, at)
    return text


def _kind(text: str) -> str:
    """Return the type of a plain scalar in YAML 1.1: "int", "null", "str"…"""
    resolvers = _TYPES.get(text[:1], ()) if text else _TYPES.get("", ())
    tags = (tag for tag, pattern in [*resolvers, *_TYPES.get(None, ())] if pattern.match(text))
    return next(tags, "str").rpartition(":")[2]


def _number(text: str, line: int, at: Key) -> int | float:
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    problem = "not a plain decimal number of at most 18 digits; write one, or text in quotes"
    if _kind(text) == "int" and len(text) <= 18:
        with suppress(ValueError):  # `0x_` looks like a number, but is not one.
            problem = f"YAML reads this as {yaml.safe_load(text)}; write that, or text in quotes"
    raise Problem(problem, line, at)


def _syntax(problem: str | None) -> str:
    """Return a syntax error without the characters that the parser quotes."""
    plain = re.sub(r"\s*['\"].*['\"]", "", problem or "", flags=re.S).strip()[:100]
    fix = "write `key: value`, and a value with special characters in quotes"
    return f"not valid YAML ({plain}); {fix}" if plain else f"not valid YAML; {fix}"


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1
