"""What starts a workflow: `on`, read and matched.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from daybook_sandbox.github.yamlread import Value

# Read, and known to happen on GitHub alone.
NEVER_HERE = ("pull_request", "schedule")
_WILD = re.compile(r"\*\*|\*|\?|[^*?]+")


@dataclass(frozen=True)
class Input:
    """A field of the form that starts a workflow by hand."""

    kind: str = "string"
    default: str = ""
    required: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Triggers:
    """Which pushes start a workflow, and what is asked when a person does. inputs: None: nobody."""

    branches: tuple[str, ...] | None = None
    branches_ignore: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    on_push: bool = False
    inputs: Mapping[str, Input] | None = field(default=None)

    @classmethod
    def of(cls, value: Value) -> Triggers:
        """Read `on`, in any of its three shapes."""
        if value.is_scalar or value.is_list:
            events = {each.text(): None for each in value.items()}
        else:
            events = value.fields()
        found = cls()
        for name, given in events.items():
            if name not in ("push", "workflow_dispatch", *NEVER_HERE):
                raise (given or value).refuse(f"the event '{name}' does not happen here")
            if name == "push":
                found = found.with_push(given)
            elif name == "workflow_dispatch":
                found = cls(**vars(found) | {"inputs": _inputs(given)})
        return found

    def with_push(self, given: Value | None) -> Triggers:
        """Return these with `push` read."""
        known = ("branches", "branches-ignore", "tags", "paths")
        read = given.fields(*known) if given else {}
        lists = {key.replace("-", "_"): value.texts() for key, value in read.items()}
        return Triggers(**vars(self) | lists | {"on_push": True})

    def wants_files(self, changed: Iterable[str]) -> bool:
        """Tell whether a push that changed these files starts it."""
        return self.paths is None or any(fits(file, self.paths) for file in changed)

    def wants_push(self, ref: str) -> bool:
        """Tell whether a push to refs/heads/… or refs/tags/… starts it."""
        kind, _, name = ref.removeprefix("refs/").partition("/")
        if not self.on_push:
            return False
        only_others = self.tags is not None and self.branches is None and not self.branches_ignore
        if kind == "heads":
            return (
                not only_others
                and (self.branches is None or fits(name, self.branches))
                and not fits(name, self.branches_ignore)
            )
        return fits(name, self.tags) if self.tags is not None else not self._names_branches

    @property
    def _names_branches(self) -> bool:
        return self.branches is not None or bool(self.branches_ignore)


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a name fits; the last pattern that speaks of it decides, ! takes out."""
    result = False
    for pattern in patterns:
        if re.fullmatch(_regex(pattern.removeprefix("!")), name):
            result = not pattern.startswith("!")
    return result


def _regex(pattern: str) -> str:
    wild = {"**": ".*", "*": "[^/]*", "?": "."}
    return "".join(wild.get(part) or re.escape(part) for part in _WILD.findall(pattern))


def _inputs(value: Value | None) -> dict[str, Input]:
    found = {}
    given = value.fields("inputs").get("inputs") if value else None
    for name, each in (given.fields() if given else {}).items():
        known = each.fields("description", "type", "default", "required", "options")
        found[name] = Input(
            kind=known["type"].text() if "type" in known else "string",
            default=known["default"].text() if "default" in known else "",
            required="required" in known and known["required"].flag(),
            options=known["options"].texts() if "options" in known else (),
        )
    return found
