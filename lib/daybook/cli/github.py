"""`daybook github`: the token that registers runners, and the application's workflow."""

from __future__ import annotations

import sys

import click

from daybook import checks, delivery, settings, ui
from daybook import github as api
from daybook.errors import SettingsError
from daybook.steps.hosts import Place

_STATES = {"online": ui.good, "offline": ui.bad}


@click.group()
def github() -> None:
    """What lets a push on GitHub become a release: docs/delivery.md."""


@github.command()
@click.argument("env")
@click.option("--rehearse", is_flag=True, help="The environment's rehearsal.")
def token(env: str, rehearse: bool) -> None:
    """Keep the token that may register runners; asked for and not shown, or read from stdin.

    A fine-grained one of the application's repository alone, with the permission
    Administration, read and write.
    """
    place = _place(env, rehearse=rehearse)
    asked = click.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.read()
    if not (value := asked.strip()):
        raise SettingsError("No token was given.", next=f"daybook github token {env} < FILE")
    api.keep_token(place.target, place.settings, value)
    known = api.repository(place.target, env, place.settings).runners()
    click.echo(
        f"{api.parameter(place.settings)} has a token for {place.settings.github.path}, "
        f"which has {len(known)} runners."
    )


@github.command()
@click.argument("env")
@click.option("--rehearse", is_flag=True, help="The environment's rehearsal.")
def runners(env: str, rehearse: bool) -> None:
    """List the runners that GitHub has for the repository of ENV."""
    place = _place(env, rehearse=rehearse)
    here = api.repository(place.target, env, place.settings)
    rows = [
        (_STATES.get(each.status, ui.warn)(each.status), each.name, ", ".join(each.labels))
        for each in here.runners()
    ]
    click.echo(ui.text(ui.Table(f"Runners of {here.path}", ("status", "runner", "labels"), rows)))


@github.command()
@click.argument("env")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--rehearse", is_flag=True, help="The environment's rehearsal.")
def workflow(env: str, folder: str, rehearse: bool) -> None:
    """Write the workflow and its scripts into FOLDER, the application's own repository.

    What is there and differs is left as it is, but for ci/deploy.json, which says where each
    branch goes to.
    """
    place = _place(env, rehearse=rehearse)
    for done in delivery.write(place.root, place.target, place.settings, folder):
        click.echo(done)


def _place(env: str, *, rehearse: bool) -> Place:
    place = Place.of(settings.find_root(), env, rehearse=rehearse)
    checks.ask(place.target, {}, {}).require()
    if not place.settings.github.path:
        raise SettingsError(
            f"{env} has no repository on GitHub.",
            next=f"set github.repository in environments/{env}.yml",
        )
    return place
