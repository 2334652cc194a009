"""Who holds the one sandbox of a Docker engine, and the broom for one that is dead."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from docker import DockerClient
from docker.errors import NotFound

from daybook.errors import PreflightFailed
from daybook_sandbox import edge, image
from daybook_sandbox.state import LABEL, PREFIX, Home, Process

LOG = logging.getLogger(__name__)
# A volume, because the engine makes one with a given name once and hands the first one out.
VOLUME = f"{PREFIX}-holder"


@dataclass(frozen=True)
class EngineClaim:
    """The sandbox an engine has: its checkout, and the process that runs it."""

    root: Path
    process: Process


def current(engine: DockerClient) -> EngineClaim | None:
    """Return who holds the sandbox, dead or alive."""
    try:
        labels = engine.volumes.get(VOLUME).attrs["Labels"]
    except NotFound:
        return None
    process = Process(int(labels[f"{LABEL}.pid"]), int(labels[f"{LABEL}.started"]))
    return EngineClaim(Path(labels[LABEL]), process)


def claim(engine: DockerClient, home: Home, process: Process) -> None:
    """Become the holder; PreflightFailed when another sandbox lives."""
    mine = {f"{LABEL}.pid": str(process.pid), f"{LABEL}.started": str(process.started)}
    engine.volumes.create(VOLUME, labels=home.labels | mine)
    holder = current(engine)
    if holder is None or holder.process != process:
        raise taken(holder.root if holder else Path("another checkout"))


def taken(root: Path) -> PreflightFailed:
    """Return what to say when another checkout's sandbox lives."""
    return PreflightFailed(
        "Another checkout's sandbox is up, and a computer holds one at a time.",
        observed=f"the sandbox of {root}",
        next=f"cd {root} && daybook sandbox down",
    )


def reap(engine: DockerClient, root: Path) -> list[str]:
    """Remove whatever a checkout's sandbox has left in the engine; return the names."""
    mine = {"label": f"{LABEL}={root}"}
    containers = engine.containers.list(all=True, filters=mine)
    networks = engine.networks.list(filters=mine)
    for container in containers:
        container.remove(v=True, force=True)
    for network in networks:
        network.remove()
    if tools := image.any_tools(engine):
        edge.remove_rules(engine, tools)
    volumes = engine.volumes.list(filters=mine)
    for volume in volumes:
        volume.remove(force=True)
    return [thing.name for thing in (*containers, *networks, *volumes)]
