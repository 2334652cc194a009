"""`daybook approve`: the second person's decision about a pending plan."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from daybook import settings, signers, ui
from daybook.approval import store
from daybook.approval.pending import NEW_PLAN, PendingPlan
from daybook.approval.store import ApprovalStore
from daybook.cli import arguments
from daybook.environment import Environment
from daybook.errors import ApprovalRefused, SettingsError
from daybook.record.statement import Party

_KEY = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("run", type=arguments.RUN)
@click.option("--decline", type=arguments.REASON, metavar="REASON", help="Decline the plan.")
@click.option("--key", type=_KEY, help="Your SSH key; default: ssh_key in the settings.")
@click.option("--rehearse", is_flag=True, help="The run is a rehearsal of a real environment.")
def approve(run: str, decline: str | None, key: Path | None, rehearse: bool) -> None:
    """Show the pending plan of RUN, and sign that you approve or decline it.

    environments/signers must allow your key daybook-approval, under a name other than the plan
    author's. At a terminal, you confirm by typing the environment's name.
    """
    root = settings.find_root()
    allowed = signers.load(root)
    plan, approvals, environment = _find(root, run, rehearse)
    planner = store.planned_by(plan, allowed)
    _show(plan, planner)
    if plan.is_expired(environment.settings.plan_hours):
        raise ApprovalRefused(
            f"{plan.digest} has expired.",
            expected=f"made in the last {environment.settings.plan_hours} hours",
            observed=plan.made,
            next=NEW_PLAN.format(**plan.basis),
        )
    is_declined, own_key = decline is not None, environment.settings.ssh_key.expanduser()
    decision = store.sign(
        plan,
        key or own_key,
        allowed,
        reason=decline or "",
        is_declined=is_declined,
    )
    if not is_declined and sys.stdin.isatty():
        _confirm(plan.environment)
    approvals.record_decision(plan, decision)
    status = ui.warn("declined") if is_declined else ui.good("approved")
    command = f"daybook run {plan.basis['step']} --resume {plan.run} -p approve {plan.digest}"
    lines = () if is_declined else (f"Next, for {planner.name}: {command}",)
    click.echo(ui.text(ui.Notice(plan.digest, status, lines)))


def _find(root: Path, run: str, rehearse: bool) -> tuple[PendingPlan, ApprovalStore, Environment]:
    """Find a run's request in the buckets of all environments."""
    waiting = []
    for name in settings.environments(root):
        environment = Environment.load(root, name, rehearse=rehearse)
        if not environment.target.is_up:
            continue
        approvals = ApprovalStore(environment)
        if plan := approvals.requested(name, run):
            return plan, approvals, environment
        waiting += approvals.requests(name)
    raise SettingsError(
        f"No run {run} is waiting for a second person's approval.",
        expected=", ".join(waiting[-5:]) or "a run that is waiting for a second person",
        next="ask the operator for the run's id, and check that you are signed in to the account",
    )


def _show(plan: PendingPlan, planner: Party) -> None:
    basis = plan.basis
    workflow = f", from a workflow started by {planner.actor}" if planner.actor else ""
    target = "REHEARSAL" if basis["target"] == "sandbox" else f"AWS {basis['account']}"
    rows = [
        ("run", plan.run),
        ("target", f"{basis['environment']}, {target}, {basis['region']}"),
        ("planned by", f"{planner.name}{workflow}"),
        ("planned at", plan.made),
        ("commit", basis["commit"] or "none"),
    ]
    click.echo(ui.text(ui.Table(f"{basis['step']} {basis['environment']}", ("", ""), rows)))
    click.echo(f"\n{_visible(plan.summary)}\n")


def _visible(text: str) -> str:
    """Escape characters that could hide or reorder a part of a plan's text on a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _confirm(env: str) -> None:
    if click.prompt(f"Type {env} to approve", default="", show_default=False) != env:
        raise ApprovalRefused("Not approved.", expected=env, next="run daybook approve again")
