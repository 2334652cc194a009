"""`daybook release`: what the hosts of an environment serve, served, and could serve again."""

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
"""The most of a version that a table shows, so that its other columns keep their room."""
LONG = ("compose", "difference", "settings_text", "site", "again")
"""What `show` prints below the facts, or leaves to --json."""


@click.group()
def release() -> None:
    """Show the releases of an environment; `daybook run deploy` and `rollback` make them."""


def _on_hosts(command: Callable) -> Callable:
    """Add what says which environment is meant; its hosts arrive as one `found`."""

    @click.argument("env")
    @common.rehearse
    @common.as_json
    @functools.wraps(command)
    def call(env: str, rehearse: bool, **given: Any) -> Any:
        environment = common.reachable(env, rehearse=rehearse)
        return command(env=env, found=states.host_states(environment.hosts), **given)

    return call


@release.command("list")
@_on_hosts
def list_(env: str, found: list[HostState], as_json: bool) -> None:
    """List the releases of ENV, the newest first: who, when, from which run, with what result."""
    if as_json:
        common.print_json(
            {each.host.name: [asdict(one) for one in each.releases] for each in found}
        )
        return
    columns = ("", "release", "version", "when", "took", "by", "run", "host", "error")
    rows = sorted((row for each in found for row in _rows(each)), key=lambda row: row[1])
    title = f"{len(rows)} releases of {env}"
    table = ui.Table(title, columns, rows[::-1], whole=("release", "version"))
    click.echo(ui.text(table, width=WIDTH))


@release.command()
@_on_hosts
def current(env: str, found: list[HostState], as_json: bool) -> None:
    """Show what each host of ENV serves now, and what is going on there."""
    if as_json:
        common.print_json({each.host.name: asdict(each.status) for each in found})
        return
    rows = [
        (_state(each), each.host.name, printable(each.version, VERSION_CHARS), *_known(each))
        for each in found
    ]
    columns = ("", "host", "version", "image", "since", "by")
    click.echo(ui.text(ui.Table(f"{env} serves", columns, rows, whole=("host", "version"))))


@release.command()
@_on_hosts
@click.argument("id", type=arguments.RELEASE, required=False)
def show(env: str, found: list[HostState], id: str | None, as_json: bool) -> None:
    """Show one release of ENV, the current one by default, and how its compose file was changed."""
    serving = _of(found, id or "")
    said = serving.host.show(id or serving.status.current)
    if as_json:
        common.print_json(said)
        return
    facts = [(k, _words(v)) for k, v in said.items() if v and k not in LONG]
    click.echo(ui.text(ui.Table(f"{said['id']} on {serving.host.name}", ("", ""), facts)))
    click.echo(f"\n{ui.plain(said['difference'])}")


@release.command()
@_on_hosts
@click.argument("before", type=arguments.RELEASE, required=False)
@click.argument("after", type=arguments.RELEASE, required=False)
def diff(
    env: str, found: list[HostState], before: str | None, after: str | None, as_json: bool
) -> None:
    """Compare two releases of ENV: by default the one before the current one, and that one."""
    serving = _of(found, after or before or "")
    earlier = rollback.before(serving)
    first = _release(serving, before) if before else (earlier or [None])[0]
    second = _release(serving, after) if after else serving.current
    if first is None or second is None:
        raise SettingsError("There is only one release.", next=f"daybook release list {env}")
    rows = rollback.differences(serving.host, first, second)
    if as_json:
        common.print_json(
            [dict(zip(("what", "before", "after"), row, strict=True)) for row in rows]
        )
        return
    title = f"What differs on {serving.host.name}" if rows else "Nothing differs"
    click.echo(ui.text(ui.Table(title, ("", first.id, second.id), rows)))


def _rows(serving: HostState) -> Iterator[tuple[object, ...]]:
    for each in serving.releases:
        result = _RESULTS.get(each.result, ui.busy)(each.result or "going on")
        when = each.at[:16].replace("T", " ")
        took = ui.duration(each.seconds) if each.seconds else ""
        by = formats.name_of(each.by)
        run = each.run.rpartition("-")[2]
        version = printable(each.version, VERSION_CHARS)
        yield (result, each.id, version, when, took, by, run, serving.host.name, each.error)


def _known(serving: HostState) -> tuple[str, str, str]:
    now = serving.current
    return (
        (now.digest[:19], now.at[:16].replace("T", " "), formats.name_of(now.by))
        if now
        else ("", "", "")
    )


def _state(serving: HostState) -> ui.Status:
    status = serving.status
    if status.deploying:
        return ui.busy("is being released")
    if status.interrupted:
        return ui.warn("was interrupted")
    if status.maintenance:
        return ui.warn("maintenance")
    return ui.good("healthy") if status.healthy else ui.bad("not healthy")


def _of(found: list[HostState], id: str) -> HostState:
    """Return the host that has a release; the first one where none is named."""
    for each in found:
        if not id or any(one.id == id for one in each.releases):
            if not id and not each.current:
                continue
            return each
    known = [one.id for each in found for one in each.releases]
    raise SettingsError(
        f"There is no release {id or 'yet'}.",
        expected=settings.nearest_hint(id, known) or ", ".join(known[:5]) or "a first deploy",
    )


def _release(serving: HostState, id: str) -> Any:
    return next(one for one in serving.releases if one.id == id)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return str(value)
