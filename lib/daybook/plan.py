"""A plan: the changes that a step would make, approved as a whole by their digest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

from daybook import ui

STATUSES = {
    "create": ui.Status(ui.Kind.GOOD, "create", "+"),
    "import": ui.Status(ui.Kind.GOOD, "import", "+"),
    "update": ui.Status(ui.Kind.WARN, "update", "~"),
    "move": ui.Status(ui.Kind.WARN, "move", "~"),
    "forget": ui.Status(ui.Kind.WARN, "forget", "~"),
    "replace": ui.Status(ui.Kind.BAD, "replace", "±"),
    "destroy": ui.Status(ui.Kind.BAD, "destroy", "-"),
    "remove": ui.Status(ui.Kind.BAD, "remove", "-"),
    "discard": ui.bad("discard"),
    "lift": ui.warn("lift"),
    "stop": ui.warn("stop"),
    "start": ui.good("start"),
    "snapshot": ui.good("snapshot"),
    "keep": ui.good("keep"),
}
"""The statuses of actions; other actions are shown as plain words."""
DANGERS = ("destroy", "replace", "remove", "discard")
"""The actions that lose something: shown first, and listed by the gate."""


def digest(content: object, prefix: str = "plan") -> str:
    """Return `plan-` and 32 hex digits, the same for the same content.

    The prefix keeps papermill's `-p` from reading a digest as a number.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return f"{prefix}-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}"


@dataclass(frozen=True)
class Change:
    """One change of a plan.

    attributes: the names of the attributes that differ, never the values.
    name, environment: of an existing resource, its name in AWS and the environment of its tag.
    """

    action: str
    address: str
    detail: str = ""
    attributes: tuple[str, ...] = ()
    name: str = ""
    environment: str = ""


@dataclass(frozen=True, repr=False)
class Plan(ui.Shown):
    """Changes that are applied together or not at all.

    basis: further facts that the digest covers: the same changes on another basis are another
    plan.
    """

    title: str
    changes: tuple[Change, ...]
    basis: Mapping[str, object]
    notes: tuple[str, ...] = ()
    prefix: ClassVar[str] = "plan"

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to change."""
        return not self.changes

    @property
    def digest(self) -> str:
        """Return the digest of the changes and their basis."""
        return digest([[asdict(change) for change in self.changes], self.basis], self.prefix)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of changes of each action: `{"create": 7, "destroy": 1}`."""
        return dict(Counter(change.action for change in self.changes))

    def of(self, *actions: str) -> tuple[Change, ...]:
        """Return the changes with one of these actions."""
        return tuple(change for change in self.changes if change.action in actions)

    def view(self) -> ui.Shown:
        """Show one row per change, dangerous ones first, and the digest to approve."""
        notes = (*self.notes, f"digest {self.digest}")
        if self.is_empty:
            return ui.Notice(f"{self.title}: no changes", ui.OK, notes)
        return ui.Table(self.title, ("action", "what", "detail"), self.rows(), None, notes)

    def rows(self) -> list[tuple[object, ...]]:
        """Return the table's rows, dangerous changes first."""
        return [
            (STATUSES.get(change.action, change.action), change.address, change.detail)
            for change in sorted(self.changes, key=lambda change: change.action not in DANGERS)
        ]
