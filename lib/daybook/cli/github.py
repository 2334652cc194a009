"""`daybook github`: the token that registers runners, and the application's workflow."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import click

from daybook import delivery, process, ui
from daybook import github as api
from daybook.cli import arguments, common
from daybook.environment import Environment
from daybook.errors import SettingsError

_STATES = {"online": ui.good, "offline": ui.bad}


@click.group()
def github() -> None:
    """What lets a push on GitHub become a release: docs/delivery.md."""


@github.command()
@click.argument("env")
@common.rehearse
def token(env: str, rehearse: bool) -> None:
    """Keep the token that may register runners of ENV: asked for and not shown, or from stdin.

    A fine-grained one of the application's repository alone, with the permission
    Administration, read and write.
    """
    environment = _load(env, rehearse=rehearse)
    asked = click.prompt("Token", hide_input=True) if sys.stdin.isatty() else _piped()
    if not re.fullmatch(r"[!-~]{1,1000}", value := asked.strip()):
        raise SettingsError(
            "No token was given.",
            expected="one line of at most 1,000 ASCII characters",
            next=f"daybook github token {env} < FILE",
        )
    api.store(environment, api.TOKEN, value)
    known = api.repository(environment).runners()
    click.echo(
        f"{api.parameter(environment, api.TOKEN)} has a token for "
        f"{environment.settings.github.path}, which has {len(known)} runners."
    )


@github.command()
@click.argument("env")
@common.rehearse
def key(env: str, rehearse: bool) -> None:
    """Make an SSH key for the workflows that run Daybook for ENV, in the parameter store."""
    environment = _load(env, rehearse=rehearse)
    with tempfile.TemporaryDirectory(prefix="daybook-") as folder:
        file = Path(folder, "key")
        who = api.workflow_name(environment)
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(file)]
        process.run(make, timeout_s=30)
        api.store(environment, api.KEY, file.read_text(encoding="ascii"))
        public = file.with_name("key.pub").read_text(encoding="ascii").rsplit(" ", 1)[0]
    click.echo("Kept. Add this line to environments/signers, commit it, and configure the hosts:")
    click.echo(f'{who} namespaces="daybook-record" {public}')


@github.command()
@click.argument("env")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@common.rehearse
def identity(env: str, file: Path, rehearse: bool) -> None:
    """Write that key to FILE and its public half beside it: for a workflow's own computer."""
    arguments.require_writable(file)
    if file.exists():
        raise SettingsError(f"{file} exists already.", next="choose another path, or remove it")
    environment = _load(env, rehearse=rehearse)
    value = api.read(environment, api.KEY)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(value)
    half: list[str] = []
    process.run(["ssh-keygen", "-y", "-f", str(file)], on_line=half.append, timeout_s=30)
    file.with_name(f"{file.name}.pub").write_text("\n".join(half) + "\n", encoding="ascii")


@github.command()
@click.argument("env")
@common.rehearse
def runners(env: str, rehearse: bool) -> None:
    """List the runners that GitHub has for the repository of ENV."""
    environment = _load(env, rehearse=rehearse)
    here = api.repository(environment)
    rows = [
        (_STATES.get(each.status, ui.warn)(each.status), each.name, ", ".join(each.labels))
        for each in here.runners()
    ]
    click.echo(ui.text(ui.Table(f"Runners of {here.path}", ("status", "runner", "labels"), rows)))


@github.command()
@click.argument("env")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@common.rehearse
def workflow(env: str, folder: str, rehearse: bool) -> None:
    """Write the workflow and its scripts into FOLDER, the application's own repository.

    What is there and differs is left as it is, but for ci/deploy.json, which says where each
    branch goes to.
    """
    environment = _load(env, rehearse=rehearse)
    for done in delivery.write(environment, folder):
        click.echo(done)


def _piped() -> str:
    """Return the beginning of what a pipe gives, which is more than any token has."""
    return sys.stdin.buffer.read(4096).decode("utf-8", "replace")


def _load(env: str, *, rehearse: bool) -> Environment:
    environment = common.reachable(env, rehearse=rehearse)
    if not environment.settings.github.path:
        raise SettingsError(
            f"{env} has no repository on GitHub.",
            next=f"set github.repository in environments/{env}.yml",
        )
    return environment
