"""Start, inspect and remove a checkout's sandbox."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fcntl import LOCK_EX, flock
from pathlib import Path

from docker import DockerClient
from docker.errors import DockerException, NotFound
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from daybook.errors import CommandFailed, PreflightFailed
from daybook_sandbox import engine, engine_claim, image
from daybook_sandbox.runfolder import remove_run_folder
from daybook_sandbox.state import Home, State

START_S = 90
STOP_S = 40
LOG_LINES = 8
OnLine = Callable[[str], None]


@dataclass(frozen=True)
class MachineStatus:
    """An instance as shown by `status`. memory_mib: its current use; 0 if it is not running."""

    id: str
    name: str
    environment: str
    state: str
    reason: str
    private_ip: str
    public_ip: str
    container: str
    memory_mib: int = 0


@dataclass(frozen=True)
class SandboxStatus:
    """A running sandbox."""

    root: Path
    pid: int
    services: dict[str, str]
    machines: tuple[MachineStatus, ...]


def up(root: Path, on_line: OnLine, *, install: bool = False) -> bool:
    """Start the sandbox and wait until it serves; return False if it was already up.

    install: install and start Docker if it is missing.
    """
    home = Home(root)
    home.make()
    with _exclusive(home):
        client = engine.ensure(home, on_line) if install else engine.find(home)
        if is_up(home):
            return False
        _remove_dead_sandboxes(client, home, on_line)
        image.ensure(client, on_line)
        on_line("Starting the sandbox")
        _start_daemon(home)
    return True


def down(root: Path, on_line: OnLine) -> bool:
    """Stop the sandbox and remove everything except its images; return False if none exists."""
    home = Home(root)
    if not home.folder.exists():
        return False
    with _exclusive(home):
        client = engine.find(home)
        state = home.read()
        if state and state.process.is_alive:
            on_line("Stopping the sandbox")
            _stop_daemon(state)
        for name in engine_claim.reap(client, root):
            on_line(f"  {name} removed")
        client.close()
        engine.stop(home)
        remove_run_folder(home)
        shutil.rmtree(home.folder)
    return True


def is_up(home: Home) -> bool:
    """Return True if the sandbox's process is alive and serving."""
    state = home.read()
    return bool(state and state.process.is_alive and home.status_file.exists())


def status(root: Path, *, memory: bool = False) -> SandboxStatus:
    """Return the running sandbox; raise PreflightFailed if it is not up."""
    home = Home(root)
    if not is_up(home):
        raise PreflightFailed(
            "The sandbox is not up.",
            expected="a sandbox that answers",
            observed=_remains(home) or "none",
            next="daybook sandbox up",
        )
    known = json.loads(home.status_file.read_text())
    machines = [MachineStatus(**machine) for machine in known["machines"]]
    if memory:
        client = engine.find(home)
        with ThreadPoolExecutor(8) as pool:
            machines = list(pool.map(lambda machine: _with_memory(client, machine), machines))
    return SandboxStatus(root, home.read().process.pid, known["services"], tuple(machines))


def _remains(home: Home) -> str | None:
    state = home.read()
    return f"its process {state.process.pid} died; up removes its remains" if state else None


@contextmanager
def _exclusive(home: Home) -> Iterator[None]:
    """Run one `up` or `down` of a checkout at a time; turn Docker's errors into CommandFailed."""
    with (home.folder / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        try:
            yield
        except DockerException as error:
            raise CommandFailed(
                "A Docker request of the sandbox failed.",
                observed=str(error),
                changed="Parts of the sandbox may be running.",
                next="daybook sandbox down, then up again",
            ) from error


def _remove_dead_sandboxes(client: DockerClient, home: Home, on_line: OnLine) -> None:
    """Refuse while another checkout's sandbox is alive; remove dead ones, including this one."""
    claim = engine_claim.current(client)
    if claim and claim.process.is_alive and claim.root != home.root:
        raise engine_claim.taken(claim.root)
    state = home.read()
    if state and state.process.is_alive:
        _stop_daemon(state)
    for root in {home.root, *([claim.root] if claim else [])}:
        for name in engine_claim.reap(client, root):
            on_line(f"{name} removed: a crashed sandbox left it")
    for file in (home.status_file, home.target_file, home.known_hosts):
        file.unlink(missing_ok=True)


def _start_daemon(home: Home) -> None:
    command = [sys.executable, "-m", "daybook_sandbox.daemon", str(home.root)]
    with home.log_file.open("wb") as log:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.root,
            start_new_session=True,
        )
    for attempt in Retrying(
        retry=retry_if_exception_type(FileNotFoundError),
        stop=stop_after_delay(START_S),
        wait=wait_fixed(0.1),
        reraise=True,
    ):
        with attempt:
            _require_alive(home, daemon)
            home.status_file.stat()


def _require_alive(home: Home, daemon: subprocess.Popen) -> None:
    if daemon.poll() is not None:
        raise CommandFailed(
            "The sandbox did not start.",
            details=home.log_file.read_text().splitlines()[-LOG_LINES:],
            changed="",
            next=f"read {home.log_file}; daybook sandbox down removes the parts that started",
        )


def _stop_daemon(state: State) -> None:
    """Terminate the daemon; kill it after STOP_S."""
    wait = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(STOP_S),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda _: os.kill(state.process.pid, signal.SIGKILL),
    )
    os.kill(state.process.pid, signal.SIGTERM)
    wait(lambda: state.process.is_alive)


def _with_memory(client: DockerClient, machine: MachineStatus) -> MachineStatus:
    """Return a machine's status with the memory of its processes, excluding caches."""
    try:
        used = client.containers.get(machine.container).stats(stream=False, one_shot=True)
    except NotFound:
        return machine
    memory = used["memory_stats"]
    stats = memory.get("stats", {})
    cache = stats.get("total_inactive_file", stats.get("inactive_file", 0))
    return replace(machine, memory_mib=(memory.get("usage", 0) - cache) >> 20)
