"""A saved plan and the result of its apply."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daybook import ui
from daybook.errors import NOTHING_CHANGED
from daybook.plan import STATUSES, Change, Plan, digest
from daybook.terraform import prices
from daybook.terraform.events import TerraformEvent


@dataclass(frozen=True, repr=False)
class SavedPlan(Plan):
    """A plan that Terraform saved in a file. `apply` makes exactly its changes.

    The digest is the same for the same changes, also in a later plan or on another machine. It
    differs for another workspace, account, region or target.
    """

    path: Path = Path()
    workspace: str = ""
    file_sha256: str = ""
    outputs: tuple[str, ...] = ()

    @property
    def destroys(self) -> tuple[str, ...]:
        """Return the addresses of the resources that are destroyed."""
        return tuple(change.address for change in self.of("destroy"))

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of changes by action, always with Terraform's four actions."""
        return dict.fromkeys(("create", "update", "replace", "destroy"), 0) | super().counts

    @property
    def is_empty(self) -> bool:
        """True if neither resources nor outputs change."""
        return not self.changes and not self.outputs

    @property
    def is_unchanged(self) -> bool:
        """True while the file has the content that was saved."""
        return self.path.is_file() and sha256(self.path) == self.file_sha256

    def discard(self) -> None:
        """Delete the plan file, because it contains secrets in plain text."""
        self.path.unlink(missing_ok=True)

    def view(self) -> ui.Table:
        """Show the counts, one row per change, the cost and the digest to approve."""
        if self.is_empty:
            title, status = f"No changes: {self.workspace} matches its configuration.", ui.OK
        else:
            counts = ", ".join(f"{count} to {action}" for action, count in self.counts.items())
            title, status = f"Plan for {self.workspace}: {counts}", None
        rows = self.rows()
        if not self.changes:
            rows = [(STATUSES["update"], f"output {name}", "") for name in self.outputs]
        notes = (*self.notes, f"digest {self.digest}")
        return ui.Table(title, ("", "resource", "details"), rows, status, notes)


def read_plan(shown: Mapping, path: Path, workspace: str, context: Mapping[str, str]) -> SavedPlan:
    """Return the plan that `terraform show -json` describes."""
    everything = shown.get("resource_changes", ())
    changes = [change for change in everything if _action(change)]
    outputs = {
        name: change
        for name, change in shown.get("output_changes", {}).items()
        if change["actions"] != ["no-op"]
    }
    cost = prices.estimate(everything, context.get("region", "")) if changes else None
    return SavedPlan(
        f"Plan for {workspace}",
        tuple(_change(change) for change in changes if _action(change) != "read"),
        {
            "workspace": workspace,
            "context": dict(context),
            "terraform": digest([changes, outputs]),
        },
        cost.lines() if cost else (),
        path=path,
        workspace=workspace,
        file_sha256=sha256(path),
        outputs=tuple(sorted(outputs)),
    )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _action(change: Mapping) -> str:
    """Return the action of a resource change; "" for no change."""
    actions = change["change"]["actions"]
    if "create" in actions and "delete" in actions:
        return "replace"
    if actions != ["no-op"]:
        return {"delete": "destroy"}.get(actions[0], actions[0])
    if change["change"].get("importing"):
        return "import"
    return "move" if change.get("previous_address") else ""


def _change(change: Mapping) -> Change:
    action, inner = _action(change), change["change"]
    before, after = inner.get("before") or {}, inner.get("after") or {}
    unknown = inner.get("after_unknown") or {}
    differing = ()
    if action in ("update", "replace"):
        names = before.keys() | after.keys() | unknown.keys()
        differing = tuple(
            sorted(n for n in names if unknown.get(n) is True or before.get(n) != after.get(n))
        )
    if action == "replace":
        forcing = {str(path[0]) for path in inner.get("replace_paths", ())}
        differing = tuple(sorted(forcing)) or differing
    known = before or after
    tags = known.get("tags_all") or {}
    reason = change.get("action_reason", "").replace("_", " ")
    return Change(
        action,
        change["address"],
        ": ".join(filter(None, [reason, ", ".join(differing)])),
        differing,
        name=known.get("key_name") or _own_name(known) or tags.get("Name") or "",
        environment=tags.get("environment", ""),
    )


def _own_name(known: Mapping) -> str:
    """Return the name of a resource; "" for `default`, which AWS names the first group of a VPC."""
    name = known.get("name") or ""
    return "" if name == "default" else name


@dataclass(frozen=True, repr=False)
class ApplyResult(ui.Shown):
    """The result of an apply. unfinished: started, with no event that reports the end."""

    workspace: str
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    duration_s: float = 0.0

    @property
    def has_begun(self) -> bool:
        return any(addresses for _, addresses in self._groups())

    def _groups(self) -> list[tuple[str, tuple[str, ...]]]:
        names = ("created", "updated", "destroyed", "failed", "unfinished")
        return [(name, getattr(self, name)) for name in names]

    def __str__(self) -> str:
        """Return one line: `created: a, b; failed: c`."""
        groups = [
            f"{name}: {', '.join(addresses)}" for name, addresses in self._groups() if addresses
        ]
        return "; ".join(groups) or NOTHING_CHANGED

    def view(self) -> ui.Table:
        groups = [(name, addresses) for name, addresses in self._groups() if addresses]
        counts = ", ".join(f"{len(addresses)} {name}" for name, addresses in groups)
        title = f"{self.workspace}: {counts or 'nothing to do'} in {ui.duration(self.duration_s)}"
        rows = [
            (ui.bad(name) if name in ("failed", "unfinished") else ui.good(name), address)
            for name, addresses in groups
            for address in addresses
        ]
        return ui.Table(title, ("", "resource"), rows, ui.FAILED if self.failed else ui.OK)


def read_applied(
    events: Sequence[TerraformEvent], workspace: str, duration_s: float = 0.0
) -> ApplyResult:
    """Return the result of an apply from its events."""
    changes = [event for event in events if event.action in ("create", "update", "delete")]

    def of(kind: str, *actions: str) -> tuple[str, ...]:
        return tuple(e.resource for e in changes if e.kind == kind and e.action in actions)

    ended = {
        (e.resource, e.action) for e in changes if e.kind in ("apply_complete", "apply_errored")
    }
    return ApplyResult(
        workspace,
        created=of("apply_complete", "create"),
        updated=of("apply_complete", "update"),
        destroyed=of("apply_complete", "delete"),
        failed=of("apply_errored", "create", "update", "delete"),
        unfinished=tuple(
            e.resource
            for e in changes
            if e.kind == "apply_start" and (e.resource, e.action) not in ended
        ),
        duration_s=duration_s,
    )
