"""`daybook lock`: who holds an environment, and how to take it from a run that cannot end."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

import click

from daybook import aws, settings, ui
from daybook.cli import arguments
from daybook.environment import ACCOUNT, Environment
from daybook.errors import SettingsError, status_of
from daybook.lock import environment_lock, recovery
from daybook.lock.object_lock import LockState
from daybook.run import Run
from daybook.terraform import StateLock

_EPILOG = "The lock of the resources that all environments share is named `account`."


@click.group()
def lock() -> None:
    """See who holds an environment, or break a lock that nobody will release."""


def _rehearsed(command):
    return click.option("--rehearse", is_flag=True, help="The environment's rehearsal.")(command)


@lock.command(epilog=_EPILOG)
@click.argument("env")
@_rehearsed
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def show(env: str, rehearse: bool, as_json: bool) -> None:
    """Show who holds ENV, and until when."""
    environment = _load(env, rehearse)
    seen = recovery.lock_of(environment, env).read()
    state_lock = None
    # Who may read Daybook's lock need not be able to read Terraform's.
    with suppress(*aws.FAILURES):
        state_lock = recovery.state_lock(environment, env)
    if as_json:
        click.echo(json.dumps(_facts(seen, state_lock)))
        return
    click.echo(ui.text(_view(env, seen)))
    if state_lock:
        title = f"Terraform holds the state of {env}"
        click.echo(ui.text(ui.Notice(title, ui.warn("locked"), tuple(state_lock.lines()))))


@lock.command("break", epilog=_EPILOG)
@click.argument("env")
@click.option(
    "--reason",
    required=True,
    type=arguments.REASON,
    help="Why; the holder and the record are told.",
)
@click.option(
    "--terraform",
    "id",
    type=arguments.LOCK,
    metavar="ID",
    help="Remove this lock of Terraform's instead.",
)
@_rehearsed
def break_(env: str, reason: str, id: str | None, rehearse: bool) -> None:
    """Take ENV's lock from its holder, who stops before its next change; this is recorded."""
    if not reason.strip():
        raise SettingsError("A lock is not broken without a reason.", next="--reason WHY")
    if id is not None:
        _remove_state_lock(env, id, reason, rehearse)
        return
    environment = _load(env, rehearse)
    held = recovery.lock_of(environment, env)
    seen = held.read()
    if seen is None or seen.is_over:
        click.echo(ui.text(_view(env, seen)))
        return
    run = Run.begin("lock-break", environment, parameters={"rehearse": rehearse, "lock": env})
    held.break_(environment_lock.holder_of(run, reason))
    run.write("change", tool="daybook", what=f"broke the lock of {env}: {reason}")
    run.write("note", what="lock broken", holder=asdict(seen.holder), reason=reason)
    title = f"The lock of {env} is broken"
    click.echo(ui.text(ui.Notice(title, ui.good("free"), tuple(seen.lines()))))
    click.echo(ui.text(run.finish(f"daybook lock show {env}")))


def _remove_state_lock(env: str, id: str, reason: str, rehearse: bool) -> None:
    """Remove Terraform's own lock, which never runs out, while nobody else may change ENV."""
    environment = _load(env, rehearse)
    _require(env, id, recovery.state_lock(environment, env))
    run = Run.begin("lock-break", environment, parameters={"rehearse": rehearse, "lock": env})
    try:
        with environment_lock.EnvironmentLock(run, env).acquire():
            found = recovery.state_lock(environment, env)
            if found is not None:  # Otherwise it was left by a run that is over: gone, and told.
                _require(env, id, found)
                recovery.remove_state_lock(environment, found)
                said = f"removed Terraform's lock {id} on the state of {env}: {reason}"
                run.write("change", tool="daybook", what=said)
    except BaseException as err:
        run.recorder.close(status_of(type(err).__name__), str(err))
        raise
    title = f"Terraform's lock on the state of {env} is removed"
    click.echo(ui.text(ui.Notice(title, ui.good("free"), tuple(found.lines() if found else ()))))
    click.echo(ui.text(run.finish(f"daybook lock show {env}")))


def _require(env: str, id: str, found: StateLock | None) -> None:
    if found is None or found.id != id:
        raise SettingsError(
            f"Terraform's lock on the state of {env} is not {id!r}.",
            expected=found.id if found else "a lock that is there: the state is not locked",
            next=f"daybook lock show {env}",
        )


def _load(env: str, rehearse: bool) -> Environment:
    environment = Environment.load(settings.find_root(), _settings_of(env), rehearse=rehearse)
    environment.target.require_up()
    return environment


def _settings_of(env: str) -> str:
    """Return whose settings say where the account is, for the lock that all of them share."""
    known = settings.environments(settings.find_root())
    return known[0] if env == ACCOUNT and env not in known and known else env


def _view(env: str, seen: LockState | None) -> ui.Notice:
    if seen is None or seen.is_over:
        lines = tuple(seen.lines()) if seen else ()
        return ui.Notice(f"Nobody holds {env}", ui.good("free"), lines)
    return ui.Notice(f"{env} is held", ui.warn("locked"), tuple(seen.lines()))


def _facts(seen: LockState | None, state_lock: StateLock | None) -> dict[str, object]:
    terraform = {"terraform": asdict(state_lock)} if state_lock else {}
    if seen is None:
        return {"held": False, **terraform}
    until = {"held": not seen.is_over, "until": seen.until.isoformat()}
    return {**until, **asdict(seen.holder), **terraform}
