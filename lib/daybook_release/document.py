"""Read a compose file's YAML as plain data, within limits, before any other program reads it.

Scalars are resolved as Compose's parser resolves them, so that the data is the same as on a
laptop; text that parsers interpret differently is refused. Compose gets the data as JSON and never
reads the text, so differences between parsers have no effect on a host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from daybook_release import limits

Path = tuple[str | int, ...]

NULL = ("", "~", "null", "Null", "NULL")
BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
OCTAL = re.compile(r"0o?([0-7]{1,18})")
HEX = re.compile(r"0x([0-9a-fA-F]{1,15})")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,2})?")
AMBIGUOUS_NUMBER = re.compile(
    r"[-+]?(?:\.inf|\.Inf|\.INF|\.nan|\.NaN|\.NAN|0[bBoOxX][0-9a-fA-F_]+"
    r"|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9_]+(?:[eE][-+]?[0-9]+)?)"
)
"""Text that some YAML parsers read as a number, and others as text or another number."""
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
KEY_LENGTH = 200


class InvalidComposeFile(Exception):
    """The text cannot be read as a compose file. message: why."""

    def __init__(self, line: int, message: str, fix: str) -> None:
        super().__init__(f"compose.yaml line {line}: {message}; {fix}")
        self.line, self.message, self.fix = line, message, fix


@dataclass(frozen=True)
class ComposeDocument:
    """The data of a compose file, and the line of each value."""

    tree: dict[str, Any]
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int:
        """Return the line of a value, or of the nearest value that contains it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(text: str) -> ComposeDocument:
    """Read a compose file; raise InvalidComposeFile if it is malformed or exceeds a limit."""
    if len(text.encode(errors="surrogatepass")) > limits.FILE_BYTES:
        raise InvalidComposeFile(
            1, f"the file has more than {limits.FILE_BYTES:,} bytes", "shorten it"
        )
    try:
        reader = _Reader(text)
    except yaml.YAMLError as err:
        raise InvalidComposeFile(
            1, "this is not YAML: not printable", "correct the syntax"
        ) from err
    try:
        return reader.document()
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        problem = ascii(getattr(err, "problem", None) or "not printable")[1:-1]
        line = mark.line + 1 if mark else 1
        raise InvalidComposeFile(
            line, f"this is not YAML: {problem}", "correct the syntax"
        ) from err
    except (ValueError, OverflowError) as err:  # From PyYAML, for a number in "\\U…" or %YAML.
        message = "this is not YAML: a number is too large"
        raise InvalidComposeFile(reader.line, message, "correct the syntax") from err


def as_json(tree: Any) -> str:
    """Return data as JSON that every YAML parser reads as the same data.

    YAML ends a line at U+2028, refuses some characters and has no surrogate pairs.
    """
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False)
    return re.sub("[\x7f-\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)


class _Reader:
    """Build the data from the parser's events and enforce the limits."""

    def __init__(self, text: str) -> None:
        self.loader = yaml.SafeLoader(text)
        self.events: Iterator[yaml.Event] = iter(self.loader.get_event, None)
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.lines: dict[Path, int] = {}
        self.nodes = self.aliases = 0

    @property
    def line(self) -> int:
        """Return the line that the scanner has reached."""
        return self.loader.line + 1

    def document(self) -> ComposeDocument:
        next(self.events)
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            raise InvalidComposeFile(1, "the file is empty", "add services")
        if start.version or start.tags:
            raise _error(start, "a % directive is not allowed", "remove it")
        tree = self._value(next(self.events), (), 0)
        next(self.events)
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _error(after, "the file has a second document", "keep one document")
        if not isinstance(tree, dict):
            raise InvalidComposeFile(1, "the file is not a mapping", "add services")
        return ComposeDocument(tree, self.lines)

    def _value(self, event: yaml.Event, path: Path, depth: int) -> Any:
        self._count_nodes(event, 1)
        self.lines.setdefault(path, event.start_mark.line + 1)
        if depth > limits.DEPTH:
            raise _error(event, f"more than {limits.DEPTH} levels are nested", "flatten the file")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            raise _error(event, "a tag is not allowed", "remove the word that begins with !")
        before = self.nodes
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        else:
            value = self._mapping(path, depth)
        if event.anchor:
            self.anchors[event.anchor] = value, self.nodes - before
        return value

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            values.append(self._value(event, (*path, len(values)), depth + 1))
        return values

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] | None = None
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event)
            if key == "<<":
                if merged is not None:
                    raise _error(event, "<< is used twice", "write << : [*one, *two]")
                merged = _merge_values(
                    event, self._value(next(self.events), (*path, key), depth + 1)
                )
                continue
            if key in own:
                raise _error(event, f"{shown(key)} is defined twice", "keep one of them")
            self.lines[(*path, key)] = event.start_mark.line + 1
            own[key] = self._value(next(self.events), (*path, key), depth + 1)
        return (merged or {}) | own

    def _key(self, event: yaml.Event) -> str:
        self._count_nodes(event, 1)
        is_plain = isinstance(event, yaml.ScalarEvent) and event.tag is None and not event.anchor
        key = _scalar(event) if is_plain else None
        if not isinstance(key, str) or len(key) > KEY_LENGTH:
            raise _error(event, "the key is not a short text", "quote it, or shorten it")
        if key == "<<" and event.style:
            raise _error(event, "<< cannot be quoted", "remove the quotes")
        return key

    def _alias(self, event: yaml.AliasEvent) -> Any:
        self.aliases += 1
        if self.aliases > limits.ALIASES:
            raise _error(
                event, f"more than {limits.ALIASES} aliases", "replace some of them by their values"
            )
        if event.anchor not in self.anchors:
            raise _error(event, "an alias without an anchor before it", "define the anchor first")
        value, size = self.anchors[event.anchor]
        self._count_nodes(event, size)
        return value

    def _count_nodes(self, event: yaml.Event, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > limits.NODES:
            raise _error(event, f"more than {limits.NODES:,} values", "shorten the file")


def shown(key: object) -> str:
    """Return a key for a message if it is a plain name, else "this key"."""
    is_plain = isinstance(key, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}", key)
    return str(key) if is_plain else "this key"


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = event.value
    if INVISIBLE.search(text):
        raise _error(event, "a control character is not allowed", "remove it")
    if event.style:
        return text
    if text in NULL:
        return None
    if text in BOOL:
        return BOOL[text]
    if INT.fullmatch(text):
        return int(text)
    if match := OCTAL.fullmatch(text):
        return int(match[1], 8)
    if match := HEX.fullmatch(text):
        return int(match[1], 16)
    if FLOAT.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text):
        return float(text)
    if AMBIGUOUS_NUMBER.fullmatch(text):
        raise _error(event, "parsers may or may not read this as a number", "quote it")
    return text


def _merge_values(event: yaml.Event, value: Any) -> dict[str, Any]:
    """Return the data that << merges; the first mapping with a key takes precedence."""
    result: dict[str, Any] = {}
    for mapping in reversed(value if isinstance(value, list) else [value]):
        if not isinstance(mapping, dict):
            raise _error(event, "<< needs a mapping", "refer to a mapping with *name")
        result |= mapping
    return result


def _error(event: yaml.Event, message: str, fix: str) -> InvalidComposeFile:
    return InvalidComposeFile(event.start_mark.line + 1, message, fix)
