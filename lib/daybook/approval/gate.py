"""The gate before a change: it accepts an approval of exactly this plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from daybook import ui
from daybook.errors import ApprovalNeeded, ApprovalRefused
from daybook.plan import DANGERS, Plan
from daybook.record.evidence import AUTOMATIC, BY_DIGEST, NOT_NEEDED

AUTO = "auto"
"""The approval that the sandbox accepts for any plan."""
SHOWN_DANGERS = 20
"""How many dangerous changes a gate lists."""


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
        """True for `auto`, which replaces every approval in the sandbox."""
        return self.how == AUTOMATIC

    def view(self) -> ui.Notice:
        """Show one line."""
        if self.how == NOT_NEEDED:
            return ui.Notice("No changes: nothing to approve", ui.quiet(self.how))
        return ui.Notice(f"Approved {self.how}: {self.digest}", ui.good("approved"))


def decide(plan: Plan, given: str, *, is_sandbox: bool, command: str) -> Approval:
    """Accept `given` for this plan, or raise.

    given: the plan's digest; `auto` in the sandbox; empty when no approval was given.
    command: approves the plan; shown in the error.
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
            "The approval is for another plan.",
            expected=plan.digest,
            observed=given,
            next=f"read the plan above; if it is right: {command}",
        )
    return Approval(plan.digest, BY_DIGEST)


def _automatic(plan: Plan, is_sandbox: bool, command: str) -> Approval:
    if is_sandbox:
        return Approval(plan.digest, AUTOMATIC)
    raise ApprovalRefused(
        "`auto` approves only in the sandbox.",
        expected=plan.digest,
        observed=AUTO,
        next=f"read the plan above; if it is right: {command}",
    )


def is_interactive() -> bool:
    """Tell whether a person can answer a widget: true in JupyterLab, false when headless."""
    import IPython

    kernel = getattr(IPython.get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent().get("content", {}).get("allow_stdin"))


class Gate:
    """A gate in a notebook: type the environment's name and press Approve, or press Decline.

    It belongs to the plan that it shows: `close` disables it, with the reason, as soon as another
    plan is the one to approve. The buttons stay enabled while the operator types, because the
    kernel receives the text too late; each press is validated instead.
    """

    def __init__(
        self,
        plan: Plan,
        env: str,
        title: str,
        *,
        approved: Callable[[Gate], ui.Notice],
        declined: Callable[[Gate, str], ui.Notice],
    ) -> None:
        """title: names the target. approved, declined: act on a press and return a notice."""
        import ipywidgets as widgets

        self.digest, self.env, self.closed = plan.digest, env, ""
        self._summary = summary(plan, title)
        self._approved, self._declined = approved, declined
        self._declined_once = False
        placeholder = f"{env} to approve, or a reason to decline"
        self.typed = widgets.Text(placeholder=placeholder, description="Type here")
        self.approve = widgets.Button(description="Approve", button_style="danger")
        self.decline = widgets.Button(description="Decline")
        self.answer = widgets.HTML()
        self.approve.on_click(lambda _button: self._press_approve())
        self.decline.on_click(lambda _button: self._press_decline())

    def show(self) -> None:
        """Display the gate; its text stays readable after the widgets are gone."""
        import ipywidgets as widgets
        from IPython.display import display

        display(self._summary)
        controls = widgets.HBox([self.typed, self.approve, self.decline])
        display(widgets.VBox([controls, self.answer]))

    def close(self, notice: ui.Notice) -> None:
        """Disable the gate for good and show the reason; a later call changes nothing."""
        if self.closed:
            return
        self.closed = notice.title
        for control in (self.typed, self.approve, self.decline):
            control.disabled = True
        self.show_notice(notice)

    def show_notice(self, notice: ui.Notice) -> None:
        """Replace the notice under the buttons."""
        self.answer.value = notice.html()

    def _press_approve(self) -> None:
        if self.closed:
            return
        self._declined_once = False
        if self.typed.value.strip() != self.env:
            self.show_notice(ui.Notice(f"Type {self.env} to approve", ui.warn("not approved")))
            return
        self._finish(self._approved(self))

    def _press_decline(self) -> None:
        if self.closed:
            return
        typed = self.typed.value.strip()
        has_reason = bool(typed) and not self.env.startswith(typed)
        if not has_reason and not self._declined_once:
            self._declined_once = True
            lines = ("Nothing was changed yet. Type a reason, or press Decline again.",)
            self.show_notice(ui.Notice("Discard this plan?", ui.warn("not declined"), lines))
            return
        self._finish(self._declined(self, typed if has_reason else ""))

    def _finish(self, notice: ui.Notice) -> None:
        self.close(notice)
        self.show_notice(notice)


def summary(plan: Plan, title: str) -> ui.Notice:
    """Return the text of a gate: the target, the counts, the dangerous changes, the digest."""
    counts = Counter(change.action for change in plan.changes)
    lines = [", ".join(f"{count} to {action}" for action, count in counts.items())]
    dangers = [f"{change.action} {change.address}" for change in plan.of(*DANGERS)]
    lines += dangers[:SHOWN_DANGERS]
    if more := dangers[SHOWN_DANGERS:]:
        lines.append(f"and {len(more)} more: see the plan")
    lines.append(f"digest {plan.digest}")
    lines.append("This gate works while its kernel is running and this plan is the newest.")
    return ui.Notice(f"Approve? {title}", ui.warn("to approve"), lines)
