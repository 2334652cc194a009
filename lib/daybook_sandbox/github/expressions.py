"""GitHub's expressions: parse, check and evaluate the subset that our workflows use.

https://docs.github.com/en/actions/reference/workflows-and-actions/expressions
Standard library only: the runner's package contains this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

STATUS = ("success", "failure", "always", "cancelled")
BINDS = {"||": 1, "&&": 2, "==": 3, "!=": 3, "<": 4, "<=": 4, ">": 4, ">=": 4}
_IN_TEXT = re.compile(r"\$\{\{(.*?)\}\}", re.S)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|'(?P<string>(?:[^']|'')*)'"
    r"|(?P<name>[A-Za-z_][\w-]*)|(?P<sign>\|\||&&|[=!<>]=|[<>!()\[\].,]))"
)
_LITERALS = {"true": True, "false": False, "null": None}


class ExpressionError(Exception):
    """An invalid or unsupported expression."""


@dataclass(frozen=True)
class Node:
    """A node of the syntax tree. kind: literal, context, get, call, ! or an operator."""

    kind: str
    value: Any = None
    parts: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """Yield this node and all its descendants."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(frozen=True)
class Scope:
    """The contexts of an expression. status: the result of the job's steps or of its needs."""

    contexts: Mapping[str, Any]
    status: str = "success"

    def holds(self, condition: str) -> bool:
        """Return True if an `if` is met; success() is implied unless it calls a status function."""
        node = parse(bare(condition) or "success()")
        if not calls_status_function(node):
            node = Node("&&", parts=(Node("call", "success"), node))
        return is_true(self._value(node))

    def text(self, template: Any) -> str:
        """Replace each ${{ }} with its value."""
        return _IN_TEXT.sub(lambda match: as_text(self._value(parse(match[1]))), str(template))

    def texts(self, templates: Mapping[str, Any]) -> dict[str, str]:
        """Replace each ${{ }} in all values."""
        return {name: self.text(template) for name, template in templates.items()}

    def _value(self, node: Node) -> Any:
        match node.kind:
            case "literal":
                return node.value
            case "context":
                return self.contexts.get(node.value)
            case "get":
                return _get(*map(self._value, node.parts))
            case "call" if node.value in STATUS:
                return node.value in ("always", self.status)
            case "call":
                return FUNCTIONS[node.value](*map(self._value, node.parts))
            case "!":
                return not is_true(self._value(node.parts[0]))
            case "&&" | "||":
                left = self._value(node.parts[0])
                return self._value(node.parts[1]) if is_true(left) == (node.kind == "&&") else left
        return _compare(node.kind, *map(self._value, node.parts))


def bare(condition: str) -> str:
    """Return a condition without an enclosing ${{ }}."""
    enclosed = _IN_TEXT.fullmatch(condition.strip())
    return (enclosed[1] if enclosed else condition).strip()


def check(text: str, contexts: tuple[str, ...], *, is_condition: bool = False) -> None:
    """Raise ExpressionError unless all expressions in a text are supported."""
    expressions = [bare(text)] if is_condition else _IN_TEXT.findall(text)
    for node in (part for source in expressions if source for part in parse(source).walk()):
        if node.kind == "context" and node.value not in contexts:
            raise ExpressionError(f"the context '{node.value}' is not available here")
        if node.kind == "call" and node.value not in (*FUNCTIONS, *STATUS):
            raise ExpressionError(f"the function '{node.value}' is not supported")
        if node.kind == "call" and node.value in STATUS and not is_condition:
            raise ExpressionError(f"{node.value}() is only available in an 'if'")


def calls_status_function(node: Node) -> bool:
    """Return True if an expression calls success() or another status function."""
    return any(part.kind == "call" and part.value in STATUS for part in node.walk())


def parse(text: str) -> Node:
    """Parse one expression."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._tokens = list(self._split())
        self._at = 0

    def whole(self) -> Node:
        node = self._binary(0)
        if self._at < len(self._tokens):
            raise self._error()
        return node

    def _split(self) -> Iterator[tuple[str, str]]:
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if not match:
                raise ExpressionError(f"'{self._text}' is not a supported expression")
            yield match.lastgroup, match[match.lastgroup]
            position = match.end()

    def _error(self) -> ExpressionError:
        token = self._tokens[self._at][1] if self._at < len(self._tokens) else "end of expression"
        return ExpressionError(f"'{self._text}' is not an expression: unexpected {token}")

    def _take(self, *signs: str) -> str:
        kind, value = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if kind == "sign" and value in signs:
            self._at += 1
            return value
        return ""

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise self._error()

    def _binary(self, least: int) -> Node:
        left = self._unary()
        while sign := self._take(*(sign for sign, bind in BINDS.items() if bind > least)):
            left = Node(sign, parts=(left, self._binary(BINDS[sign])))
        return left

    def _unary(self) -> Node:
        return Node("!", parts=(self._unary(),)) if self._take("!") else self._postfix()

    def _postfix(self) -> Node:
        node = self._primary()
        while sign := self._take(".", "["):
            if sign == "[":
                node = Node("get", parts=(node, self._binary(0)))
                self._need("]")
            else:
                node = Node("get", parts=(node, Node("literal", self._name())))
        return node

    def _name(self) -> str:
        if self._at == len(self._tokens) or self._tokens[self._at][0] != "name":
            raise self._error()
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _primary(self) -> Node:
        if self._take("("):
            node = self._binary(0)
            self._need(")")
            return node
        kind, value = self._tokens[self._at] if self._at < len(self._tokens) else ("sign", "")
        if kind == "sign":
            raise self._error()
        self._at += 1
        if kind == "number":
            return Node("literal", float(value))
        if kind == "string":
            return Node("literal", value.replace("''", "'"))
        if value.lower() in _LITERALS:
            return Node("literal", _LITERALS[value.lower()])
        return Node("call", value, self._arguments()) if self._take("(") else Node("context", value)

    def _arguments(self) -> tuple[Node, ...]:
        if self._take(")"):
            return ()
        arguments = [self._binary(0)]
        while self._take(","):
            arguments.append(self._binary(0))
        self._need(")")
        return tuple(arguments)


def is_true(value: Any) -> bool:
    """Return True for all values except false, 0, "" and null."""
    return value not in (None, False, 0, "") or isinstance(value, (dict, list))


def as_text(value: Any) -> str:
    """Return a value as it appears in text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _get(owner: Any, key: Any) -> Any:
    if isinstance(owner, Mapping):
        wanted = as_text(key).lower()
        return next((value for name, value in owner.items() if name.lower() == wanted), None)
    if isinstance(owner, list) and isinstance(key, float) and 0 <= key < len(owner):
        return owner[int(key)]
    return None


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return float("nan")


def _compare(sign: str, left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        left, right = left.lower(), right.lower()
    elif type(left) is not type(right):
        left, right = _number(left), _number(right)
    match sign:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
    return left >= right


def _contains(container: Any, item: Any) -> bool:
    if isinstance(container, list):
        return any(_compare("==", member, item) for member in container)
    return as_text(item).lower() in as_text(container).lower()


def _format(template: str, *values: Any) -> str:
    return re.sub(r"\{(\d+)\}", lambda match: as_text(values[int(match[1])]), template)


def _join(values: Any, separator: str = ",") -> str:
    return separator.join(map(as_text, values if isinstance(values, list) else [values]))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "contains": _contains,
    "startsWith": lambda text, start: as_text(text).lower().startswith(as_text(start).lower()),
    "endsWith": lambda text, end: as_text(text).lower().endswith(as_text(end).lower()),
    "format": _format,
    "join": _join,
    "toJSON": lambda value: json.dumps(value, indent=2),
    "fromJSON": json.loads,
}
