"""`daybook release`: the current and earlier releases on the hosts of an environment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click

from daybook import settings, ui
from daybook.cli import arguments, common
from daybook.errors import SettingsError
from daybook.hosts import states
from daybook.hosts.states import HostState
from daybook.steps import rollback
from daybook.ui import formats
from daybook_release.printable import printable

_RESULTS = {
    "serving": ui.good,
    "replaced": ui.quiet,
    "rolled back": ui.warn,
    "failed": ui.bad,
}
WIDTH = 150
VERSION_CHARS = 32
"""How many characters of a version a table shows, so that its other columns fit."""
LONG = ("compose", "difference", "settings_text", "site", "again")
"""The fields that `show` omits from the facts; --json has all of them."""


@click.group()
def release() -> None:
    """Show the releases of an environment, which `daybook run deploy` and `rollback` make."""


def _on_hosts(command: Callable) -> Callable:
    """Add ENV, `--rehearse` and `--json`; pass the state of its hosts as `hosts`."""

    @click.argument("env")
    @common.rehearse
    @common.as_json
    @functools.wraps(command)
    def call(env: str, rehearse: bool, **arguments: Any) -> Any:
        environment = common.reachable(env, rehearse=rehearse)
        return command(env=env, hosts=states.host_states(environment.hosts), **arguments)

    return call


@release.command("list")
@_on_hosts
def list_(env: str, hosts: list[HostState], as_json: bool) -> None:
    """List the releases of ENV, newest first, with operator, time, run and result."""
    if as_json:
        common.print_json(
            {state.host.name: [asdict(release) for release in state.releases] for state in hosts}
        )
        return
    columns = ("", "release", "version", "when", "took", "by", "run", "host", "error")
    rows = sorted((row for state in hosts for row in _rows(state)), key=lambda row: row[1])
    title = f"{ui.count(len(rows), 'release')} of {env}"
    table = ui.Table(title, columns, rows[::-1], whole=("release", "version"))
    click.echo(ui.text(table, width=WIDTH))


@release.command()
@_on_hosts
def current(env: str, hosts: list[HostState], as_json: bool) -> None:
    """Show the current release and the status of each host of ENV."""
    if as_json:
        common.print_json({state.host.name: asdict(state.status) for state in hosts})
        return
    rows = [
        (_status(state), state.host.name, printable(state.version, VERSION_CHARS), *_image(state))
        for state in hosts
    ]
    columns = ("", "host", "version", "image", "since", "by")
    click.echo(ui.text(ui.Table(f"{env} serves", columns, rows, whole=("host", "version"))))


@release.command()
@_on_hosts
@click.argument("id", type=arguments.RELEASE, required=False)
def show(env: str, hosts: list[HostState], id: str | None, as_json: bool) -> None:
    """Show a release of ENV and the changes to its compose file; default: the current release."""
    state = _find(hosts, id or "")
    details = state.host.show(id or state.status.current)
    if as_json:
        common.print_json(details)
        return
    rows = [(key, _text(value)) for key, value in details.items() if value and key not in LONG]
    click.echo(ui.text(ui.Table(f"{details['id']} on {state.host.name}", ("", ""), rows)))
    click.echo(f"\n{ui.plain(details['difference'])}")


@release.command()
@_on_hosts
@click.argument("before", type=arguments.RELEASE, required=False)
@click.argument("after", type=arguments.RELEASE, required=False)
def diff(
    env: str, hosts: list[HostState], before: str | None, after: str | None, as_json: bool
) -> None:
    """Compare two releases of ENV; default: the previous and the current release."""
    state = _find(hosts, after or before or "")
    earlier = rollback.before(state)
    first = _release(state, before) if before else (earlier or [None])[0]
    second = _release(state, after) if after else state.current
    if first is None or second is None:
        raise SettingsError("There is only one release.", next=f"daybook release list {env}")
    rows = rollback.differences(state.host, first, second)
    if as_json:
        common.print_json(
            [dict(zip(("what", "before", "after"), row, strict=True)) for row in rows]
        )
        return
    title = f"Differences on {state.host.name}" if rows else "No differences"
    click.echo(ui.text(ui.Table(title, ("", first.id, second.id), rows)))


def _rows(state: HostState) -> Iterator[tuple[object, ...]]:
    for release in state.releases:
        result = _RESULTS.get(release.result, ui.busy)(release.result or "in progress")
        when = release.at[:16].replace("T", " ")
        took = ui.duration(release.seconds) if release.seconds else ""
        by = formats.name_of(release.by)
        run = release.run.rpartition("-")[2]
        version = printable(release.version, VERSION_CHARS)
        yield (result, release.id, version, when, took, by, run, state.host.name, release.error)


def _image(state: HostState) -> tuple[str, str, str]:
    """Return the image, the time and the operator of the current release."""
    release = state.current
    return (
        (release.digest[:19], release.at[:16].replace("T", " "), formats.name_of(release.by))
        if release
        else ("", "", "")
    )


def _status(state: HostState) -> ui.Status:
    status = state.status
    if status.deploying:
        return ui.busy("deploying")
    if status.interrupted:
        return ui.warn("interrupted")
    if status.maintenance:
        return ui.warn("maintenance")
    return ui.good("healthy") if status.healthy else ui.bad("unhealthy")


def _find(hosts: list[HostState], id: str) -> HostState:
    """Return the first host that has a release, or without an id, the first one that serves."""
    for state in hosts:
        if any(release.id == id for release in state.releases) if id else state.current:
            return state
    known = [release.id for state in hosts for release in state.releases]
    raise SettingsError(
        f"There is no release {id or 'yet'}.",
        expected=settings.nearest_hint(id, known) or ", ".join(known[:5]) or "a first deploy",
    )


def _release(state: HostState, id: str) -> Any:
    return next(release for release in state.releases if release.id == id)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)
