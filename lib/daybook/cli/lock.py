"""`daybook lock`: who holds an environment, and how to take it from a run that cannot end."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from daybook import settings, target, ui
from daybook.cli import arguments
from daybook.errors import SettingsError
from daybook.gates import turn
from daybook.gates.lock import Seen
from daybook.run import Run

ACCOUNT = "What all environments share is named `account`."


@click.group()
def lock() -> None:
    """See who holds an environment, or break a lock that nobody will release."""


def _rehearsed(command):
    return click.option("--rehearse", is_flag=True, help="The environment's rehearsal.")(command)


@lock.command(epilog=ACCOUNT)
@click.argument("env")
@_rehearsed
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def show(env: str, rehearse: bool, as_json: bool) -> None:
    """Show who holds ENV, and until when."""
    chosen, where = _place(env, rehearse)
    seen = turn.lock_in(where, chosen.app, env).read()
    if as_json:
        click.echo(json.dumps(_facts(seen)))
    else:
        click.echo(ui.text(_view(env, seen)))


@lock.command("break", epilog=ACCOUNT)
@click.argument("env")
@click.option(
    "--reason",
    required=True,
    type=arguments.REASON,
    help="Why; the holder and the record are told.",
)
@_rehearsed
def break_(env: str, reason: str, rehearse: bool) -> None:
    """Take ENV's lock from its holder, who stops before its next change; this is recorded."""
    if not reason.strip():
        raise SettingsError("A lock is not broken without a reason.", next="--reason WHY")
    chosen, where = _place(env, rehearse)
    held = turn.lock_in(where, chosen.app, env)
    seen = held.read()
    if seen is None or seen.is_over:
        click.echo(ui.text(_view(env, seen)))
        return
    run = Run("lock-break", _settings_of(env), rehearse=rehearse, parameters={"lock": env})
    held.break_(turn.holder_of(run, reason))
    run.write("change", tool="daybook", what=f"broke the lock of {env}: {reason}")
    run.write("note", what="lock broken", holder=asdict(seen.holder), reason=reason)
    title = f"The lock of {env} is broken"
    click.echo(ui.text(ui.Notice(title, ui.good("free"), tuple(seen.lines()))))
    click.echo(ui.text(run.finish(f"daybook lock show {env}")))


def _place(env: str, rehearse: bool) -> tuple[settings.Settings, target.Target]:
    root = settings.find_root()
    chosen = settings.load(root, _settings_of(env))
    where = target.resolve(chosen, root, rehearse=rehearse)
    if not where.is_up:
        raise SettingsError("The sandbox is not up.", next="daybook sandbox up")
    return chosen, where


def _settings_of(env: str) -> str:
    """Return whose settings say where the account is, for the lock that all of them share."""
    known = settings.environments(settings.find_root())
    return known[0] if env == turn.ACCOUNT and env not in known and known else env


def _view(env: str, seen: Seen | None) -> ui.Notice:
    if seen is None or seen.is_over:
        lines = tuple(seen.lines()) if seen else ()
        return ui.Notice(f"Nobody holds {env}", ui.good("free"), lines)
    return ui.Notice(f"{env} is held", ui.warn("locked"), tuple(seen.lines()))


def _facts(seen: Seen | None) -> dict[str, object]:
    if seen is None:
        return {"held": False}
    return {"held": not seen.is_over, "until": seen.until.isoformat(), **asdict(seen.holder)}
