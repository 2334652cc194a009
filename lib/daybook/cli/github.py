"""`daybook github`: the token for the registration of runners, and the application's workflow."""

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
    """Set up releases from pushes to GitHub: docs/delivery.md."""


@github.command()
@click.argument("env")
@common.rehearse
def token(env: str, rehearse: bool) -> None:
    """Store the token that registers the runners of ENV, from a prompt or from stdin.

    Use a fine-grained token for the application's repository only, with the permission
    Administration, read and write. The prompt does not show it.
    """
    environment = _load(env, rehearse=rehearse)
    entered = click.prompt("Token", hide_input=True) if sys.stdin.isatty() else _read_pipe()
    if not re.fullmatch(r"[!-~]{1,1000}", value := entered.strip()):
        raise SettingsError(
            "The input is not a token.",
            expected="one line of at most 1,000 ASCII characters",
            next=f"daybook github token {env} < FILE",
        )
    api.store(environment, api.TOKEN, value)
    registered = api.repository(environment).runners()
    click.echo(
        f"Stored in {api.parameter(environment, api.TOKEN)}: a token for "
        f"{environment.settings.github.path}, which has {len(registered)} runners."
    )


@github.command()
@click.argument("env")
@common.rehearse
def key(env: str, rehearse: bool) -> None:
    """Create an SSH key for the workflows of ENV that run Daybook, in the parameter store."""
    environment = _load(env, rehearse=rehearse)
    with tempfile.TemporaryDirectory(prefix="daybook-") as folder:
        file = Path(folder, "key")
        name = api.workflow_name(environment)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)]
        process.run(command, timeout_s=30)
        api.store(environment, api.KEY, file.read_text(encoding="ascii"))
        public = file.with_name("key.pub").read_text(encoding="ascii").rsplit(" ", 1)[0]
    click.echo("Stored. Add this line to environments/signers, commit it, and run configure:")
    click.echo(f'{name} namespaces="daybook-record" {public}')


@github.command()
@click.argument("env")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@common.rehearse
def identity(env: str, file: Path, rehearse: bool) -> None:
    """Write the workflow key of ENV to FILE and its public key to FILE.pub, for a workflow."""
    arguments.require_writable(file)
    if file.exists():
        raise SettingsError(f"{file} already exists.", next="use another path, or remove it")
    environment = _load(env, rehearse=rehearse)
    value = api.read(environment, api.KEY)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(value)
    public: list[str] = []
    process.run(["ssh-keygen", "-y", "-f", str(file)], on_line=public.append, timeout_s=30)
    file.with_name(f"{file.name}.pub").write_text("\n".join(public) + "\n", encoding="ascii")


@github.command()
@click.argument("env")
@common.rehearse
def runners(env: str, rehearse: bool) -> None:
    """List the runners that are registered for the repository of ENV."""
    repository = api.repository(_load(env, rehearse=rehearse))
    rows = [
        (_STATES.get(runner.status, ui.warn)(runner.status), runner.name, ", ".join(runner.labels))
        for runner in repository.runners()
    ]
    columns = ("status", "runner", "labels")
    click.echo(ui.text(ui.Table(f"Runners of {repository.path}", columns, rows)))


@github.command()
@click.argument("env")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@common.rehearse
def workflow(env: str, folder: str, rehearse: bool) -> None:
    """Write the workflow and its scripts to FOLDER, a checkout of the application's repository.

    Existing files that differ stay unchanged, except ci/deploy.json, which maps branches to
    environments.
    """
    environment = _load(env, rehearse=rehearse)
    for line in delivery.write(environment, folder):
        click.echo(line)


def _read_pipe() -> str:
    """Return the beginning of stdin, longer than any token."""
    return sys.stdin.buffer.read(4096).decode("utf-8", "replace")


def _load(env: str, *, rehearse: bool) -> Environment:
    environment = common.reachable(env, rehearse=rehearse)
    if not environment.settings.github.path:
        raise SettingsError(
            f"{env} has no repository on GitHub.",
            next=f"set github.repository in environments/{env}.yml",
        )
    return environment
