"""`daybook lock`: show the holder of an environment's lock, or break the lock of a dead run."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

import click

from daybook import aws, settings, ui
from daybook.cli import arguments, common
from daybook.environment import ACCOUNT, Environment
from daybook.errors import SettingsError, status_of
from daybook.lock import environment_lock, recovery
from daybook.lock.object_lock import LockState
from daybook.run import Run
from daybook.terraform import StateLock

_EPILOG = "The lock of the resources that all environments share is named `account`."


@click.group()
def lock() -> None:
    """Show the holder of an environment's lock, or break a lock that no run will release."""


@lock.command(epilog=_EPILOG)
@click.argument("env")
@common.rehearse
@common.as_json
def show(env: str, rehearse: bool, as_json: bool) -> None:
    """Show the holder of the lock of ENV, and when the lock expires."""
    environment = _load(env, rehearse)
    state = recovery.lock_of(environment, env).read()
    state_lock = None
    # An operator may be able to read Daybook's lock but not Terraform's.
    with suppress(*aws.FAILURES):
        state_lock = recovery.state_lock(environment, env)
    if as_json:
        click.echo(json.dumps(_facts(state, state_lock)))
        return
    click.echo(ui.text(_view(env, state)))
    if state_lock:
        title = f"Terraform holds the state of {env}"
        click.echo(ui.text(ui.Notice(title, ui.warn("locked"), tuple(state_lock.lines()))))


@lock.command("break", epilog=_EPILOG)
@click.argument("env")
@click.option(
    "--reason",
    required=True,
    type=arguments.REASON,
    help="The reason; shown to the holder and recorded.",
)
@click.option(
    "--terraform",
    "id",
    type=arguments.LOCK,
    metavar="ID",
    help="Remove Terraform's lock with this id instead.",
)
@common.rehearse
def break_(env: str, reason: str, id: str | None, rehearse: bool) -> None:
    """Break the lock of ENV and record it; the holder stops before its next change."""
    if not reason.strip():
        raise SettingsError("Breaking a lock requires a reason.", next="--reason WHY")
    if id is not None:
        _remove_state_lock(env, id, reason, rehearse)
        return
    environment = _load(env, rehearse)
    held = recovery.lock_of(environment, env)
    state = held.read()
    if state is None or state.is_free:
        click.echo(ui.text(_view(env, state)))
        return
    run = Run.begin("lock-break", environment, parameters={"rehearse": rehearse, "lock": env})
    held.break_(environment_lock.holder_of(run, reason))
    run.write("change", tool="daybook", what=f"broke the lock of {env}: {reason}")
    run.write("note", what="lock broken", holder=asdict(state.holder), reason=reason)
    title = f"Broke the lock of {env}"
    click.echo(ui.text(ui.Notice(title, ui.good("free"), tuple(state.lines()))))
    click.echo(ui.text(run.finish(f"daybook lock show {env}")))


def _remove_state_lock(env: str, id: str, reason: str, rehearse: bool) -> None:
    """Remove Terraform's own lock, which never expires, while this run holds the lock of ENV."""
    environment = _load(env, rehearse)
    _require_id(env, id, recovery.state_lock(environment, env))
    run = Run.begin("lock-break", environment, parameters={"rehearse": rehearse, "lock": env})
    try:
        with environment_lock.EnvironmentLock(run, env).acquire():
            state_lock = recovery.state_lock(environment, env)
            if state_lock is not None:  # None: acquire has removed the lock of an ended run.
                _require_id(env, id, state_lock)
                recovery.remove_state_lock(environment, state_lock)
                change = f"removed Terraform's lock {id} on the state of {env}: {reason}"
                run.write("change", tool="daybook", what=change)
    except BaseException as err:
        run.recorder.close(status_of(type(err).__name__), str(err))
        raise
    title = f"Removed Terraform's lock on the state of {env}"
    lines = tuple(state_lock.lines() if state_lock else ())
    click.echo(ui.text(ui.Notice(title, ui.good("free"), lines)))
    click.echo(ui.text(run.finish(f"daybook lock show {env}")))


def _require_id(env: str, id: str, state_lock: StateLock | None) -> None:
    if state_lock is None or state_lock.id != id:
        raise SettingsError(
            f"Terraform's lock on the state of {env} is not {id!r}.",
            expected=state_lock.id if state_lock else "no id: the state is not locked",
            next=f"daybook lock show {env}",
        )


def _load(env: str, rehearse: bool) -> Environment:
    environment = Environment.load(settings.find_root(), _settings_of(env), rehearse=rehearse)
    environment.target.require_up()
    return environment


def _settings_of(env: str) -> str:
    """Return the environment with the settings for a lock: for ACCOUNT, the first environment."""
    known = settings.environments(settings.find_root())
    return known[0] if env == ACCOUNT and env not in known and known else env


def _view(env: str, state: LockState | None) -> ui.Notice:
    if state is None or state.is_free:
        lines = tuple(state.lines()) if state else ()
        return ui.Notice(f"{env} is not locked", ui.good("free"), lines)
    return ui.Notice(f"{env} is locked", ui.warn("locked"), tuple(state.lines()))


def _facts(state: LockState | None, state_lock: StateLock | None) -> dict[str, object]:
    terraform = {"terraform": asdict(state_lock)} if state_lock else {}
    if state is None:
        return {"held": False, **terraform}
    until = {"held": not state.is_free, "until": state.until.isoformat()}
    return {**until, **asdict(state.holder), **terraform}
