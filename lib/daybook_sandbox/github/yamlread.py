"""YAML with line numbers, so that unsupported parts are refused with their line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import yaml

from daybook_sandbox.github.expressions import ExpressionError, check


class UnsupportedWorkflow(Exception):
    """A line of a workflow that the simulation does not support."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")


@dataclass(frozen=True)
class Value:
    """A value in a file. name: its path in the document: jobs.build.steps."""

    file: str
    node: yaml.Node
    line: int
    name: str = "the workflow"

    def refuse(self, reason: str) -> UnsupportedWorkflow:
        """Return an error for this line."""
        return UnsupportedWorkflow(self.file, self.line, reason)

    def fields(self, *known: str) -> dict[str, Value]:
        """Return a mapping's values; refuse keys that are not in `known`."""
        pairs = dict(self._pairs())
        for key, value in pairs.items():
            if known and key not in known:
                raise value.refuse(f"'{key}' in {self.name} is not supported")
        return pairs

    def items(self) -> list[Value]:
        """Return a list's values; a single value counts as a list."""
        if isinstance(self.node, yaml.SequenceNode):
            return [Value(self.file, node, _line(node), self.name) for node in self.node.value]
        return [self]

    def texts(self) -> tuple[str, ...]:
        """Return a list of strings without expressions."""
        return tuple(item.text() for item in self.items())

    def text(self, contexts: Collection[str] = (), *, is_condition: bool = False) -> str:
        """Return a scalar as written; its expressions may use these contexts."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.refuse(f"{self.name} must be a scalar")
        try:
            check(self.node.value, tuple(contexts), is_condition=is_condition)
        except ExpressionError as error:
            raise self.refuse(str(error)) from error
        return "" if self.node.tag.endswith(":null") else self.node.value

    def flag(self) -> bool:
        """Return true or false."""
        if self.text().lower() not in ("true", "false"):
            raise self.refuse(f"{self.name} must be true or false")
        return self.text().lower() == "true"

    def number(self) -> float:
        """Return a number."""
        try:
            return float(self.text())
        except ValueError as error:
            raise self.refuse(f"{self.name} must be a number") from error

    def mapped(self, contexts: Collection[str]) -> dict[str, str]:
        """Return a mapping of names to strings."""
        return {key: value.text(contexts) for key, value in self.fields().items()}

    @property
    def is_scalar(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    def _pairs(self) -> Iterator[tuple[str, Value]]:
        if self.is_scalar and self.node.tag.endswith(":null"):
            return
        if not isinstance(self.node, yaml.MappingNode):
            raise self.refuse(f"{self.name} must be a mapping")
        for key, node in self.node.value:
            name = key.value if self.name == "the workflow" else f"{self.name}.{key.value}"
            yield key.value, Value(self.file, node, _line(key), name)


def read(file: str, text: str) -> Value:
    """Parse a file. file: its path in errors."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UnsupportedWorkflow(file, line, f"invalid YAML: {error.problem}") from error
    if node is None:
        raise UnsupportedWorkflow(file, 1, "the file is empty")
    return Value(file, node, _line(node))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
