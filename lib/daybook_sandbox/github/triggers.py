"""A workflow's triggers: parse `on` and match events.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from daybook_sandbox.github.yamlread import Value

# Accepted, but these events never occur in the sandbox.
IGNORED = ("pull_request", "schedule")
_WILD = re.compile(r"\*\*|\*|\?|[^*?]+")


@dataclass(frozen=True)
class Input:
    """An input of workflow_dispatch."""

    kind: str = "string"
    default: str = ""
    required: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Triggers:
    """A workflow's push filters and inputs. inputs: None without workflow_dispatch."""

    branches: tuple[str, ...] | None = None
    branches_ignore: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    on_push: bool = False
    inputs: Mapping[str, Input] | None = field(default=None)

    @classmethod
    def of(cls, value: Value) -> Triggers:
        """Parse `on` as a scalar, a list or a mapping."""
        if value.is_scalar or value.is_list:
            events = {event.text(): None for event in value.items()}
        else:
            events = value.fields()
        triggers = cls()
        for name, filters in events.items():
            if name not in ("push", "workflow_dispatch", *IGNORED):
                raise (filters or value).refuse(f"the event '{name}' is not supported")
            if name == "push":
                triggers = triggers.with_push(filters)
            elif name == "workflow_dispatch":
                triggers = cls(**vars(triggers) | {"inputs": _inputs(filters)})
        return triggers

    def with_push(self, filters: Value | None) -> Triggers:
        """Return these triggers with the filters of `push`."""
        known = ("branches", "branches-ignore", "tags", "paths")
        values = filters.fields(*known) if filters else {}
        lists = {key.replace("-", "_"): value.texts() for key, value in values.items()}
        return Triggers(**vars(self) | lists | {"on_push": True})

    def wants_files(self, changed: Iterable[str]) -> bool:
        """Return True if a push that changed these files starts the workflow."""
        return self.paths is None or any(fits(file, self.paths) for file in changed)

    def wants_push(self, ref: str) -> bool:
        """Return True if a push to refs/heads/… or refs/tags/… starts the workflow."""
        kind, _, name = ref.removeprefix("refs/").partition("/")
        if not self.on_push:
            return False
        is_tags_only = self.tags is not None and self.branches is None and not self.branches_ignore
        if kind == "heads":
            return (
                not is_tags_only
                and (self.branches is None or fits(name, self.branches))
                and not fits(name, self.branches_ignore)
            )
        return fits(name, self.tags) if self.tags is not None else not self._names_branches

    @property
    def _names_branches(self) -> bool:
        return self.branches is not None or bool(self.branches_ignore)


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Return True if a name is selected; the last matching pattern decides, and ! excludes."""
    result = False
    for pattern in patterns:
        if re.fullmatch(_regex(pattern.removeprefix("!")), name):
            result = not pattern.startswith("!")
    return result


def _regex(pattern: str) -> str:
    wild = {"**": ".*", "*": "[^/]*", "?": "."}
    return "".join(wild.get(part) or re.escape(part) for part in _WILD.findall(pattern))


def _inputs(value: Value | None) -> dict[str, Input]:
    inputs = {}
    declared = value.fields("inputs").get("inputs") if value else None
    for name, attributes in (declared.fields() if declared else {}).items():
        known = attributes.fields("description", "type", "default", "required", "options")
        inputs[name] = Input(
            kind=known["type"].text() if "type" in known else "string",
            default=known["default"].text() if "default" in known else "",
            required="required" in known and known["required"].flag(),
            options=known["options"].texts() if "options" in known else (),
        )
    return inputs
