"""YAML with line numbers: what is not known is refused with the line it stands on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import yaml

from daybook_sandbox.github.expressions import ExpressionError, check


class UnsupportedWorkflow(Exception):
    """A line of a workflow that the stand-in cannot do as GitHub would."""

    def __init__(self, file: str, line: int, why: str) -> None:
        super().__init__(f"{file}:{line}: {why}")


@dataclass(frozen=True)
class Value:
    """A value in a file. name: how a person would call the place: jobs.build.steps."""

    file: str
    node: yaml.Node
    line: int
    name: str = "the workflow"

    def refuse(self, why: str) -> UnsupportedWorkflow:
        """Return the error that names this line."""
        return UnsupportedWorkflow(self.file, self.line, why)

    def fields(self, *known: str) -> dict[str, Value]:
        """Return a mapping's values; a key that is not known is an error."""
        pairs = dict(self._pairs())
        for key, value in pairs.items():
            if known and key not in known:
                raise value.refuse(f"'{key}' of {self.name} is not evaluated here")
        return pairs

    def items(self) -> list[Value]:
        """Return a list's values; one value alone counts as a list."""
        if isinstance(self.node, yaml.SequenceNode):
            return [Value(self.file, node, _line(node), self.name) for node in self.node.value]
        return [self]

    def texts(self) -> tuple[str, ...]:
        """Return a list of plain texts."""
        return tuple(each.text() for each in self.items())

    def text(self, contexts: Collection[str] = (), *, is_condition: bool = False) -> str:
        """Return a scalar as it is written, its expressions checked against these contexts."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.refuse(f"{self.name} has to be a plain value here")
        try:
            check(self.node.value, tuple(contexts), is_condition=is_condition)
        except ExpressionError as error:
            raise self.refuse(str(error)) from error
        return "" if self.node.tag.endswith(":null") else self.node.value

    def flag(self) -> bool:
        """Return true or false."""
        if self.text().lower() not in ("true", "false"):
            raise self.refuse(f"{self.name} has to be true or false")
        return self.text().lower() == "true"

    def number(self) -> float:
        """Return a number."""
        try:
            return float(self.text())
        except ValueError as error:
            raise self.refuse(f"{self.name} has to be a number") from error

    def mapped(self, contexts: Collection[str]) -> dict[str, str]:
        """Return a mapping of names to texts."""
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
            raise self.refuse(f"{self.name} has to be a mapping")
        for key, node in self.node.value:
            where = key.value if self.name == "the workflow" else f"{self.name}.{key.value}"
            yield key.value, Value(self.file, node, _line(key), where)


def read(file: str, text: str) -> Value:
    """Read a file; its own path is what errors show."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UnsupportedWorkflow(file, line, f"no YAML: {error.problem}") from error
    if node is None:
        raise UnsupportedWorkflow(file, 1, "the file is empty")
    return Value(file, node, _line(node))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
