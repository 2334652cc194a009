"""Redact secrets in text: registered values, and tokens of a known format.

    redactor = Redactor()
    redactor.add("DB_PASSWORD", "correct horse")
    redactor.clean("pw=correct%20horse")     # 'pw=[redacted:DB_PASSWORD]'

Registered values are also found if they are base64-, URL-, JSON-, HTML- or shell-encoded, broken
across lines, interrupted by colour codes, or split between two pieces of a stream.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import urllib.parse
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from daybook.record import patterns
from daybook.record.patterns import Span

_COMMON = frozenset(
    {
        *("password", "password1", "changeme", "secret12", "12345678", "123456789", "1234567890"),
        *("abcdefgh", "qwertyui", "admin123", "test1234", "testing", "default", "disabled"),
        *("localhost", "production", "staging", "sandbox", "username", "undefined", "anonymous"),
        *("administrator", "us-east-1", "eu-west-1", "eu-central-1", "123456789012"),
    }
)
_SECRET_NAME = re.compile(
    r"(?i)(SECRET|PASSW|PASSPHRASE|TOKEN|PRIVATE_?KEY|API_?KEY|ACCESS_KEY|CREDENTIAL)"
)
_NOT_SECRET = re.compile(r"(?i)(_FILE|_PATH|_DIR|_URL|_URI|_ENDPOINT|_HOST|_PORT|_NAME|_ID)$")
_GAP = re.compile(r"(?:\r|\n|\x00|\x1b\[[0-9;]*[A-Za-z]|\\[nr])[ \t]*")
_FRAMED_GAP = re.compile(r"[ \t]*[│┃|]?[ \t]*(?:\r|\n|\x00|\\[nr])[ \t]*[│┃|]?[ \t]*")
_NO_GAP = re.compile(r"(?!)")
_HALF_GAP = re.compile(r"(?:\x1b(?:\[[0-9;]*)?|\\)\Z")
_GAP_MARKS = ("\n", "\r", "\x00", "\x1b", "\\n", "\\r")
_CHUNK = 64
_HOLD = 8192
_KEY_HOLD = 32768


class Redactor:
    """Register secret values by name, and redact them in text, messages and streams."""

    def __init__(self) -> None:
        self._needles: tuple[tuple[str, str], ...] = ()
        self._prefixes: frozenset[str] = frozenset()
        self.counts: Counter[str] = Counter()

    def add(self, name: str, value: str | bytes | None) -> bool:
        """Register a secret; return False if it is too short or too common to be redacted."""
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
        text = text.strip()
        if not _is_distinctive(text):
            return False
        label = re.sub(r"[^\w.-]+", "_", name)
        needles = {squeezed: label for form in _forms(text) if (squeezed := _squeeze(form))}
        merged = needles | dict(self._needles)
        self._needles = tuple(sorted(merged.items(), key=lambda item: -len(item[0])))
        self._prefixes = frozenset(n[:k] for n in merged for k in range(1, len(n)))
        return True

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Register the values of variables with the name of a credential, except file paths."""
        for name, value in environ.items():
            is_credential = _SECRET_NAME.search(name) and not _NOT_SECRET.search(name)
            if is_credential and not (os.path.isabs(value) and os.path.exists(value)):
                self.add(name, value)

    def clean(self, text: str) -> str:
        """Return the text with each secret replaced by `[redacted:NAME]`."""
        spans = self._spans(text)
        return self._replace(text, spans) if spans else text

    def clean_value(self, value: Any) -> Any:
        """Return a copy of nested JSON-like data, keys included, without secrets."""
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, Mapping):
            return {self.clean_value(key): self.clean_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            if value and all(isinstance(item, str) for item in value):
                return self._clean_strings(value)
            return [self.clean_value(item) for item in value]
        if isinstance(value, bytes | bytearray | memoryview):
            return self.clean(bytes(value).decode("latin-1")).encode("latin-1", "replace")
        return value

    clean_message = clean_value

    def stream(self) -> Stream:
        """Return a redactor for text that arrives in pieces."""
        return Stream(self)

    def _clean_strings(self, items: Iterable[str]) -> list[str]:
        cleaned = [self.clean(item) for item in items]
        joined = "\x00".join(cleaned)
        spans = self._spans(joined)
        return self._replace(joined, spans).split("\x00") if spans else cleaned

    def _replace(self, text: str, spans: list[Span]) -> str:
        pieces, position = [], 0
        for start, end, name in spans:
            self.counts[name] += 1
            pieces += [text[position:start], f"[redacted:{name}]"]
            position = end
        return "".join(pieces) + text[position:]

    def _spans(self, text: str) -> list[Span]:
        known = list(self._known(text)) if self._needles else []
        return _merge(known + patterns.find(text))

    def _known(self, text: str) -> Iterator[Span]:
        for squeezed, gap in _views(text):
            hits = [
                (start, start + len(needle), name)
                for needle, name in self._needles
                if needle in squeezed
                for start in _occurrences(squeezed, needle)
            ]
            if hits:
                origin = _origin(match.span() for match in gap.finditer(text))
                yield from ((origin(start), origin(end - 1) + 1, name) for start, end, name in hits)

    def _held_from(self, text: str) -> int:
        """Return the start of a tail that may be the first part of a secret."""
        held = min(self._start_of_value(text), _start_of_token(text))
        complete = _HALF_GAP.sub("", text)
        if complete != text and (start := self._start_of_value(complete)) < len(complete):
            held = min(held, start)
        if held == len(text):
            return held
        overlapping = [start for start, end, _ in self._spans(text) if start < held < end]
        return min([held, *overlapping])

    def _start_of_value(self, text: str) -> int:
        """Return the start of a tail that may be the first part of a registered value."""
        if not self._prefixes:
            return len(text)
        offset = max(0, len(text) - 4 * _CHUNK)
        tail = text[offset:]
        gaps = [match.span() for match in _GAP.finditer(tail)]
        squeezed = _GAP.sub("", tail)
        for size in range(min(len(squeezed), 2 * _CHUNK), 0, -1):
            if squeezed[-size:] in self._prefixes:
                start = _origin(gaps)(len(squeezed) - size)
                crosses_line = bool(gaps) and gaps[-1][1] > start
                if size >= 4 or not crosses_line:
                    return offset + start
        return len(text)


class Stream:
    """Redact text that arrives in pieces; a tail that could start a secret is held back."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""

    def feed(self, text: str) -> str:
        """Add a piece; return the text that can be displayed already."""
        text = self._held + text
        cut = self._redactor._held_from(text)
        self._held = text[cut:]
        return self._redactor.clean(text[:cut])

    def flush(self) -> str:
        """Return the rest of the text."""
        held, self._held = self._held, ""
        return self._redactor.clean(held)


def _is_distinctive(value: str) -> bool:
    if len(value) < 6 or value.lower() in _COMMON or len(set(value)) < 4:
        return False
    kinds = sum(
        bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]")
    )
    return kinds >= 2 if len(value) < 10 else not value.isdigit() or len(value) > 12


def _forms(value: str) -> Iterator[str]:
    """Yield the forms in which a value may appear; for a long value, those of its pieces.

    The lines of a key are searched for unencoded only: `patterns` finds an encoded key.
    """
    if len(value) <= 2 * _CHUNK:
        yield from _encodings(value)
        if "\n" not in value:
            return
    is_key = "-----BEGIN" in value
    for line in value.splitlines():
        for start in range(0, len(line), _CHUNK):
            piece = line[start : start + _CHUNK]
            if len(piece) >= 16 and len(set(piece)) >= 8 and "-----" not in piece:
                yield from [piece] if is_key else _encodings(piece)


def _encodings(value: str) -> Iterator[str]:
    yield value
    quoted = {urllib.parse.quote(value, safe=""), urllib.parse.quote(value)}
    quoted.add(urllib.parse.quote_plus(value))
    yield from quoted
    yield from (re.sub("%[0-9A-F]{2}", lambda m: m.group().lower(), form) for form in quoted)
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]
    yield repr(value)[1:-1]
    yield html.escape(value)
    yield html.escape(value, quote=False)
    yield value.replace("'", "'\"'\"'")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _base64_cores(value.encode(), encode)


def _base64_cores(raw: bytes, encode: Any) -> Iterator[str]:
    """Yield the base64 characters of a value that do not depend on the text around it."""
    for shift, skip in ((0, 0), (1, 2), (2, 3)):
        core = encode(b"\0" * shift + raw).decode()[skip : (shift + len(raw)) * 8 // 6]
        if len(core) >= 6:
            yield core


def _squeeze(text: str) -> str:
    return _GAP.sub("", text)


def _views(text: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield the text without gaps that can split a secret, and the pattern of these gaps."""
    if not any(mark in text for mark in _GAP_MARKS):
        yield text, _NO_GAP
        return
    yield _GAP.sub("", text), _GAP
    if "│" in text or "┃" in text or " \n" in text:
        yield _FRAMED_GAP.sub("", text), _FRAMED_GAP


def _origin(gaps: Iterable[tuple[int, int]]) -> Callable[[int], int]:
    """Return a function that maps positions in the squeezed text to the original text."""
    starts, shifts, removed = [], [], 0
    for start, end in gaps:
        starts.append(start - removed)
        removed += end - start
        shifts.append(removed)

    def origin(position: int) -> int:
        before = bisect_right(starts, position)
        return position + (shifts[before - 1] if before else 0)

    return origin


def _occurrences(text: str, needle: str) -> Iterator[int]:
    start = text.find(needle)
    while start >= 0:
        yield start
        start = text.find(needle, start + len(needle))


def _merge(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        if merged and start < merged[-1][1]:
            last = merged[-1]
            merged[-1] = (last[0], max(last[1], end), last[2])
        else:
            merged.append((start, end, name))
    return merged


def _start_of_token(text: str) -> int:
    """Return the position on the unfinished last line where a token may start."""
    line = max(text.rfind("\n"), text.rfind("\r")) + 1
    floor = max(line, len(text) - _HOLD)
    lowered = text[floor:].lower()
    starts = [
        floor + position for prefix in patterns.PREFIXES if (position := lowered.find(prefix)) >= 0
    ]
    key = text.rfind("-----BEGIN ", max(0, len(text) - _KEY_HOLD))
    if key >= 0 and "PRIVATE KEY" in text[key : key + 60] and "-----END " not in text[key:]:
        starts.append(key)
    for size in range(min(len(lowered), patterns.LONGEST_PREFIX), 0, -1):
        is_word = lowered[-size] in ":-" or not lowered[-size - 1 : -size].isalnum()
        if is_word and any(prefix.startswith(lowered[-size:]) for prefix in patterns.PREFIXES):
            starts.append(len(text) - size)
            break
    return min(starts, default=len(text))
