"""Bring a checkout's sandbox up, look at it, and take all of it down again."""

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
    """One instance, as `status` shows it. memory_mib: what it uses now; 0 when it is off."""

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
    """A sandbox that is up."""

    root: Path
    pid: int
    services: dict[str, str]
    machines: tuple[MachineStatus, ...]


def up(root: Path, on_line: OnLine, *, install: bool = False) -> bool:
    """Start the sandbox and wait until it serves; return False when it was up already.

    install: install and start Docker where there is none.
    """
    home = Home(root)
    home.make()
    with _alone(home):
        client = engine.ensure(home, on_line) if install else engine.find(home)
        if is_up(home):
            return False
        _clear_the_way(client, home, on_line)
        image.ensure(client, on_line)
        on_line("Starting the sandbox")
        _start_daemon(home)
    return True


def down(root: Path, on_line: OnLine) -> bool:
    """End the sandbox and remove all it made but the images; return False when there was none."""
    home = Home(root)
    if not home.folder.exists():
        return False
    with _alone(home):
        client = engine.find(home)
        state = home.read()
        if state and state.process.is_alive:
            on_line("Ending the sandbox")
            _end(state)
        for name in engine_claim.reap(client, root):
            on_line(f"  {name} removed")
        client.close()
        engine.stop(home)
        remove_run_folder(home)
        shutil.rmtree(home.folder)
    return True


def is_up(home: Home) -> bool:
    """Tell whether the sandbox's process lives and serves."""
    state = home.read()
    return bool(state and state.process.is_alive and home.status_file.exists())


def status(root: Path, *, memory: bool = False) -> SandboxStatus:
    """Return what runs; PreflightFailed when the sandbox is not up."""
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
            machines = list(pool.map(lambda machine: _weigh(client, machine), machines))
    return SandboxStatus(root, home.read().process.pid, known["services"], tuple(machines))


def _remains(home: Home) -> str | None:
    state = home.read()
    return f"its process {state.process.pid} has died; up cleans up after it" if state else None


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Let one `up` or `down` of a checkout work at a time; Docker's refusals become errors."""
    with (home.folder / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        try:
            yield
        except DockerException as error:
            raise CommandFailed(
                "Docker refused what the sandbox needs.",
                observed=str(error),
                changed="What was started so far is still there.",
                next="daybook sandbox down, then up again",
            ) from error


def _clear_the_way(client: DockerClient, home: Home, on_line: OnLine) -> None:
    """Refuse while another checkout's sandbox lives; sweep away a dead one, ours included."""
    held = engine_claim.current(client)
    if held and held.process.is_alive and held.root != home.root:
        raise engine_claim.taken(held.root)
    state = home.read()
    if state and state.process.is_alive:
        _end(state)
    for root in {home.root, *([held.root] if held else [])}:
        for name in engine_claim.reap(client, root):
            on_line(f"{name} was left by a sandbox that died; removed")
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
            next=f"read {home.log_file}; daybook sandbox down removes what was started",
        )


def _end(state: State) -> None:
    """Ask the daemon to end; after STOP_S make it."""
    gone = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(STOP_S),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda _: os.kill(state.process.pid, signal.SIGKILL),
    )
    os.kill(state.process.pid, signal.SIGTERM)
    gone(lambda: state.process.is_alive)


def _weigh(client: DockerClient, machine: MachineStatus) -> MachineStatus:
    """Fill in what a machine's processes use, caches left out."""
    try:
        used = client.containers.get(machine.container).stats(stream=False, one_shot=True)
    except NotFound:
        return machine
    memory = used["memory_stats"]
    stats = memory.get("stats", {})
    cache = stats.get("total_inactive_file", stats.get("inactive_file", 0))
    return replace(machine, memory_mib=(memory.get("usage", 0) - cache) >> 20)
