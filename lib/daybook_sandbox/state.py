"""The sandbox's state on disk, under `<root>/.sandbox/`, and its process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

LABEL = "daybook.sandbox"
PREFIX = "daybook-sandbox"


@dataclass(frozen=True)
class Ports:
    """The sandbox's ports; a service has the same port on every gateway.

    registry and acme use TLS on the gateways; registry_local is the registry's port on loopback.
    """

    api: int
    imds: int
    dns: int
    registry: int
    registry_local: int
    forward: int
    acme: int
    github: int = 0


@dataclass(frozen=True)
class Process:
    """A process, identified by PID and start time so that a reused PID does not match."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process with this PID; `started` is 0 if there is none."""
        return cls(pid, _start_ticks(pid))

    @property
    def is_alive(self) -> bool:
        return self.started != 0 and _start_ticks(self.pid) == self.started


@dataclass(frozen=True)
class State:
    """A started sandbox."""

    process: Process


@dataclass(frozen=True)
class Home:
    """The folder of a checkout's sandbox, with mode 0700 because it contains keys."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / ".sandbox"

    @property
    def target_file(self) -> Path:
        return self.folder / "target.env"

    @property
    def log_file(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def ssh_key(self) -> Path:
        return self.folder / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "ssh" / "known_hosts"

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def _engine_file(self) -> Path:
        return self.folder / "engine.json"

    @property
    def status_file(self) -> Path:
        return self.folder / "status.json"

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL: str(self.root)}

    def make(self) -> None:
        """Create the folder and the demo's SSH key."""
        self.ssh_key.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.ssh_key.parent):
            folder.chmod(0o700)
        if not self.ssh_key.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "daybook-sandbox"]
            subprocess.run([*command, "-f", str(self.ssh_key)], check=True)

    def read(self) -> State | None:
        """Return the last written state; None if there is none."""
        try:
            raw = json.loads(self._state_file.read_text())
        except FileNotFoundError:
            return None
        return State(process=Process(**raw["process"]))

    def write(self, state: State) -> None:
        """Write the state atomically."""
        write_private(self._state_file, json.dumps(asdict(state), indent=2) + "\n")

    def read_engine(self) -> Process | None:
        """Return the Docker engine that was started for this sandbox; None if there is none."""
        try:
            return Process(**json.loads(self._engine_file.read_text()))
        except FileNotFoundError:
            return None

    def write_engine(self, engine: Process) -> None:
        """Record an engine so that `down` stops it."""
        write_private(self._engine_file, json.dumps(asdict(engine)) + "\n")

    def write_target(self, variables: Mapping[str, str]) -> None:
        """Write the environment variables that make the sandbox the target."""
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        write_private(self.target_file, "".join(lines))

    def read_target(self) -> dict[str, str]:
        """Return the variables of `write_target`; empty if the sandbox is not up."""
        if not self.target_file.exists():
            return {}
        lines = self.target_file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner can read it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def _start_ticks(pid: int) -> int:
    """Return a process's start time in clock ticks since boot; 0 if it is missing or a zombie.

    proc(5): field 22 of /proc/PID/stat; the command name before it may contain spaces.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])
