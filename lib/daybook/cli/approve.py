"""`daybook approve`: the second person's yes or no to a plan that waits."""

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
@click.option("--decline", type=arguments.REASON, metavar="REASON", help="Say no, and why.")
@click.option("--key", type=_KEY, help="Your SSH key, if not the settings'.")
@click.option("--rehearse", is_flag=True, help="The run was a rehearsal of a real environment.")
def approve(run: str, decline: str | None, key: Path | None, rehearse: bool) -> None:
    """Read the pending plan of RUN, and sign that you approve or decline it.

    Your key must be in environments/signers for daybook-approval, under another name than that of
    the person who made the plan.
    At a terminal you are asked to type the environment's name first.
    """
    root = settings.find_root()
    allowed = signers.load(root)
    plan, approvals, environment = _find(root, run, rehearse)
    planner = store.planned_by(plan, allowed)
    _show(plan, planner)
    if plan.is_expired(environment.settings.plan_hours):
        raise ApprovalRefused(
            f"{plan.digest} is too old.",
            expected=f"made in the last {environment.settings.plan_hours} hours",
            observed=plan.made,
            next=NEW_PLAN.format(**plan.basis),
        )
    is_no, own_key = decline is not None, environment.settings.ssh_key.expanduser()
    answer = store.sign(
        plan,
        key or own_key,
        allowed,
        reason=decline or "",
        is_declined=is_no,
    )
    if not is_no and sys.stdin.isatty():
        _confirm(plan.environment)
    approvals.record_decision(plan, answer)
    word = ui.warn("declined") if is_no else ui.good("approved")
    going_on = f"daybook run {plan.basis['step']} --resume {plan.run} -p approve {plan.digest}"
    lines = () if is_no else (f"{planner.name} goes on: {going_on}",)
    click.echo(ui.text(ui.Notice(plan.digest, word, lines)))


def _find(root: Path, run: str, rehearse: bool) -> tuple[PendingPlan, ApprovalStore, Environment]:
    """Look for a run's request in the buckets of all environments."""
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
        f"No run {run} has asked for approval.",
        expected=", ".join(waiting[-5:]) or "a run that waits for a second person",
        next="ask the operator for the run's id, and check that you are signed in to the account",
    )


def _show(plan: PendingPlan, planner: Party) -> None:
    where = plan.basis
    by = f", from a workflow that {planner.actor} started" if planner.actor else ""
    place = "REHEARSAL" if where["target"] == "sandbox" else f"AWS {where['account']}"
    rows = [
        ("run", plan.run),
        ("where", f"{where['environment']}, {place}, {where['region']}"),
        ("planned by", f"{planner.name}{by}"),
        ("planned at", plan.made),
        ("commit", where["commit"] or "none"),
    ]
    click.echo(ui.text(ui.Table(f"{where['step']} {where['environment']}", ("", ""), rows)))
    click.echo(f"\n{_visible(plan.summary)}\n")


def _visible(text: str) -> str:
    """Return a plan's text with nothing that could hide or reorder a part of it on a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _confirm(env: str) -> None:
    if click.prompt(f"Type {env} to approve", default="", show_default=False) != env:
        raise ApprovalRefused("Not approved.", expected=env, next="daybook approve again, or not")
