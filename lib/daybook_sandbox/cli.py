"""`daybook sandbox`: the rehearsal cloud of this checkout."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daybook.errors import PreflightFailed
from daybook.settings import find_root
from daybook_sandbox import lifecycle
from daybook_sandbox.lifecycle import MachineStatus, SandboxStatus
from daybook_sandbox.state import Home


@click.group()
def sandbox() -> None:
    """The rehearsal cloud: AWS's API and real Debian machines on this computer."""


@sandbox.command()
@click.option("--install", is_flag=True, help="Install and start Docker where there is none.")
def up(install: bool) -> None:
    """Start the sandbox; says so when it is up already."""
    root = find_root()
    with shown_progress() as on_line:
        started = lifecycle.up(root, on_line, install=install)
    click.echo("The sandbox is up." if started else "The sandbox is up already: no changes.")
    show(lifecycle.status(root))
    click.echo("To end it: daybook sandbox down")


@sandbox.command()
def status() -> None:
    """Show the sandbox's processes and machines."""
    show(lifecycle.status(find_root(), memory=True))


@sandbox.command(context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(host: str, command: Sequence[str]) -> None:
    """Log in to a machine, by its name, instance id, environment or address."""
    root = find_root()
    machine = choose(lifecycle.status(root).machines, host)
    arguments = ssh_command(Home(root), machine, command)
    os.execvp(arguments[0], arguments)


@sandbox.command()
def env() -> None:
    """Print the variables that lead any tool to the sandbox: eval "$(daybook sandbox env)"."""
    root = find_root()
    lifecycle.status(root)
    for name, value in Home(root).read_target().items():
        click.echo(f"export {name}={shlex.quote(value)}")


@sandbox.command()
def down() -> None:
    """End the sandbox and remove all of it but the cached images."""
    with shown_progress() as on_line:
        ended = lifecycle.down(find_root(), on_line)
    click.echo("The sandbox is down." if ended else "There is no sandbox: no changes.")


@contextmanager
def shown_progress() -> Iterator[Callable[[str], None]]:
    """Yield what shows a line: steps stay; details, which are indented, pass on one line."""
    console = Console(highlight=False, markup=False, emoji=False)
    with console.status("", spinner="line") as status:

        def show_line(line: str) -> None:
            if line.startswith(" "):
                status.update(Text(line.strip(), overflow="ellipsis", no_wrap=True))
            else:
                console.print(line)

        yield show_line


def choose(machines: Sequence[MachineStatus], host: str) -> MachineStatus:
    """Return the one running machine that a word names."""
    running = [machine for machine in machines if machine.state == "running"]
    found = [machine for machine in running if host in _names(machine)]
    if len(found) == 1:
        return found[0]
    raise PreflightFailed(
        f"{len(found) or 'No'} running machines are called {host}.",
        expected="a name, an instance id, an environment or an address of one machine",
        observed=", ".join(machine.name or machine.id for machine in running) or "no machine",
        next="daybook sandbox status",
    )


def ssh_command(home: Home, machine: MachineStatus, command: Sequence[str]) -> list[str]:
    """Return the ssh that trusts just the host keys which the machine's console showed."""
    options = {
        "IdentitiesOnly": "yes",
        "HostKeyAlias": machine.id,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(home.known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
    }
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return ["ssh", "-i", str(home.ssh_key), *flags, f"admin@{machine.private_ip}", *command]


def show(found: SandboxStatus) -> None:
    """Print the sandbox as tables; as plain columns where the output is not a terminal."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    services = Table("service", "where", box=None, padding=(0, 2, 0, 0))
    services.add_row("daemon", f"process {found.pid}")
    for name, where in found.services.items():
        services.add_row(name, where)
    console.print(services)
    columns = ("machine", "id", "environment", "state", "private", "elastic", "MiB")
    machines = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for machine in found.machines:
        machines.add_row(*_row(machine))
    console.print(machines if found.machines else "no machines")


def _row(machine: MachineStatus) -> Sequence[str]:
    return (
        machine.name or "-",
        machine.id,
        machine.environment or "-",
        machine.state if not machine.reason else f"{machine.state} ({machine.reason})",
        machine.private_ip or "-",
        machine.public_ip or "-",
        str(machine.memory_mib or "-"),
    )


def _names(machine: MachineStatus) -> set[str]:
    names = {machine.id, machine.name, machine.environment, machine.private_ip, machine.public_ip}
    return names - {""}
