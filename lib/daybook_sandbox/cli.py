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
    """Run the rehearsal cloud: the AWS API and real Debian machines on this computer."""


@sandbox.command()
@click.option("--install", is_flag=True, help="Install and start Docker if it is missing.")
def up(install: bool) -> None:
    """Start the sandbox; does nothing if it is already up."""
    root = find_root()
    with shown_progress() as on_line:
        started = lifecycle.up(root, on_line, install=install)
    click.echo("The sandbox is up." if started else "The sandbox is already up: no changes.")
    show(lifecycle.status(root))
    click.echo("To stop it: daybook sandbox down")


@sandbox.command()
def status() -> None:
    """Show the sandbox's processes and machines."""
    show(lifecycle.status(find_root(), memory=True))


@sandbox.command(context_settings={"ignore_unknown_options": True})
@click.argument("host")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(host: str, command: Sequence[str]) -> None:
    """Log in to a machine by name, instance id, environment or address."""
    root = find_root()
    machine = choose(lifecycle.status(root).machines, host)
    arguments = ssh_command(Home(root), machine, command)
    os.execvp(arguments[0], arguments)


@sandbox.command()
def env() -> None:
    """Print the variables that point any tool at the sandbox: eval "$(daybook sandbox env)"."""
    root = find_root()
    lifecycle.status(root)
    for name, value in Home(root).read_target().items():
        click.echo(f"export {name}={shlex.quote(value)}")


@sandbox.command()
def down() -> None:
    """Stop the sandbox and remove everything except the cached images."""
    with shown_progress() as on_line:
        stopped = lifecycle.down(find_root(), on_line)
    click.echo("The sandbox is down." if stopped else "No sandbox exists: no changes.")


@contextmanager
def shown_progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a line: steps stay, indented details replace each other."""
    console = Console(highlight=False, markup=False, emoji=False)
    with console.status("", spinner="line") as status:

        def show_line(line: str) -> None:
            if line.startswith(" "):
                status.update(Text(line.strip(), overflow="ellipsis", no_wrap=True))
            else:
                console.print(line)

        yield show_line


def choose(machines: Sequence[MachineStatus], host: str) -> MachineStatus:
    """Return the one running machine with this name, id, environment or address."""
    running = [machine for machine in machines if machine.state == "running"]
    matches = [machine for machine in running if host in _names(machine)]
    if len(matches) == 1:
        return matches[0]
    raise PreflightFailed(
        f"{len(matches) or 'No'} running machines match {host}.",
        expected="a name, an instance id, an environment or an address of one machine",
        observed=", ".join(machine.name or machine.id for machine in running) or "no machine",
        next="daybook sandbox status",
    )


def ssh_command(home: Home, machine: MachineStatus, command: Sequence[str]) -> list[str]:
    """Return an ssh command that trusts only the host keys from the machine's console."""
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


def show(status: SandboxStatus) -> None:
    """Print the sandbox's services and machines as tables."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    services = Table("service", "location", box=None, padding=(0, 2, 0, 0))
    services.add_row("daemon", f"process {status.pid}")
    for name, location in status.services.items():
        services.add_row(name, location)
    console.print(services)
    columns = ("machine", "id", "environment", "state", "private", "elastic", "MiB")
    machines = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for machine in status.machines:
        machines.add_row(*_row(machine))
    console.print(machines if status.machines else "no machines")


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
