"""The gate before a change: who approved exactly this plan."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from daybook import ui
from daybook.errors import ApprovalNeeded, ApprovalRefused

AUTO = "auto"
"""The approval that the sandbox takes for any plan."""
NOT_NEEDED = "not needed"
AUTOMATIC = "by auto, in the sandbox"


class Change(Protocol):
    """One thing that a plan would do."""

    action: str
    address: str


class Plan(Protocol):
    """What a gate needs to know of a plan."""

    changes: tuple[Change, ...]

    @property
    def digest(self) -> str: ...

    @property
    def is_empty(self) -> bool: ...


@dataclass(frozen=True)
class Task:
    """One thing to be done that is no Terraform resource."""

    action: str
    address: str
    detail: str


@dataclass(frozen=True, repr=False)
class Proposal(ui.Shown):
    """A plan of tasks, with a digest over all that it rests on."""

    title: str
    changes: tuple[Task, ...]
    basis: Mapping[str, object]

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to do."""
        return not self.changes

    @property
    def digest(self) -> str:
        """Return `plan-` and 32 hex digits, the same for the same basis and tasks."""
        tasks = [asdict(task) for task in self.changes]
        canonical = json.dumps([tasks, self.basis], sort_keys=True, default=str).encode()
        return f"plan-{hashlib.sha256(canonical).hexdigest()[:32]}"

    def view(self) -> ui.Shown:
        """Show one row a task, and the digest to approve."""
        rows = [(task.action, task.address, task.detail) for task in self.changes]
        notes = (f"digest {self.digest}",)
        if self.is_empty:
            return ui.Notice(f"{self.title}: no changes", ui.OK, notes)
        return ui.Table(self.title, ("action", "what", "detail"), rows, None, notes)


@dataclass(frozen=True)
class Signature:
    """A second person's approval: `statement` is JSON, byte for byte as it was signed."""

    name: str
    statement: str
    signature: str


@dataclass(frozen=True, repr=False)
class Approval(ui.Shown):
    """Which plan was approved, and how: `by its digest`, `not needed`. by: second persons."""

    digest: str
    how: str
    by: tuple[Signature, ...] = ()

    @property
    def is_automatic(self) -> bool:
        """True for the sandbox's stand-in for everybody."""
        return self.how == AUTOMATIC

    def view(self) -> ui.Notice:
        """Show one line."""
        if self.how == NOT_NEEDED:
            return ui.Notice("No changes: nothing to approve", ui.quiet(self.how))
        return ui.Notice(f"Approved {self.how}: {self.digest}", ui.good("approved"))


def decide(plan: Plan, given: str, *, is_sandbox: bool, command: str) -> Approval:
    """Accept `given` for this plan, or raise.

    given: the plan's digest; `auto` in the sandbox; empty means that nobody has approved.
    command: what to run to approve, printed when nobody has.
    """
    if plan.is_empty:
        return Approval(plan.digest, NOT_NEEDED)
    if not given:
        raise ApprovalNeeded(
            f"Waiting for approval of {plan.digest}.", next=f"read the plan, then: {command}"
        )
    if given == AUTO:
        return _automatic(plan, is_sandbox, command)
    if given != plan.digest:
        raise ApprovalRefused(
            "What was approved is not this plan.",
            expected=plan.digest,
            observed=given,
            next=f"read the plan above; if it is right: {command}",
        )
    return Approval(plan.digest, "by its digest")


def _automatic(plan: Plan, is_sandbox: bool, command: str) -> Approval:
    if is_sandbox:
        return Approval(plan.digest, AUTOMATIC)
    raise ApprovalRefused(
        "`auto` approves only in the sandbox.",
        expected=plan.digest,
        observed=AUTO,
        next=f"read the plan above; if it is right: {command}",
    )


def somebody_is_there() -> bool:
    """Tell whether a person can answer a widget: true in JupyterLab, false when headless."""
    import IPython

    kernel = getattr(IPython.get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent().get("content", {}).get("allow_stdin"))


def ask_in_notebook(
    plan: Plan,
    env: str,
    approved: Callable[[Approval], ui.Notice],
    declined: Callable[[str], None],
) -> None:
    """Show the gate as a widget: type the environment's name, then Approve or Decline.

    approved: says what comes next. declined: takes the reason, if one was typed.
    """
    import ipywidgets as widgets
    from IPython.display import display

    counts = Counter(change.action for change in plan.changes)
    said = ", ".join(f"{count} to {action}" for action, count in counts.items())
    summary = ui.Notice(f"{env}: {said}", ui.warn("to approve"), (f"digest {plan.digest}",))
    typed = widgets.Text(placeholder=f"{env}, or why not", description="Type here")
    approve = widgets.Button(description="Approve", button_style="danger", disabled=True)
    decline = widgets.Button(description="Decline")
    answer = widgets.HTML()

    def finish(notice: ui.Notice) -> None:
        for control in (typed, approve, decline):
            control.disabled = True
        answer.value = notice.html()

    def on_approve(_button: object) -> None:
        finish(approved(Approval(plan.digest, f"by typing {env}")))

    def on_decline(_button: object) -> None:
        declined("" if typed.value == env else typed.value.strip())
        finish(ui.Notice("Declined. Nothing was changed", ui.warn("declined")))

    typed.observe(lambda change: setattr(approve, "disabled", change["new"] != env), "value")
    approve.on_click(on_approve)
    decline.on_click(on_decline)
    controls = widgets.HBox([typed, approve, decline])
    display(widgets.VBox([widgets.HTML(summary.html()), controls, answer]))
