"""The claim on a Docker engine, which runs one sandbox at a time, and the removal of dead ones."""

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
# A volume, because Docker creates a given name only once and then returns the existing volume.
VOLUME = f"{PREFIX}-holder"


@dataclass(frozen=True)
class EngineClaim:
    """The sandbox that claims the engine: its checkout and its process."""

    root: Path
    process: Process


def current(engine: DockerClient) -> EngineClaim | None:
    """Return the current claim; its process may be dead."""
    try:
        labels = engine.volumes.get(VOLUME).attrs["Labels"]
    except NotFound:
        return None
    process = Process(int(labels[f"{LABEL}.pid"]), int(labels[f"{LABEL}.started"]))
    return EngineClaim(Path(labels[LABEL]), process)


def claim(engine: DockerClient, home: Home, process: Process) -> None:
    """Claim the engine; raise PreflightFailed if another live sandbox has it."""
    labels = {f"{LABEL}.pid": str(process.pid), f"{LABEL}.started": str(process.started)}
    engine.volumes.create(VOLUME, labels=home.labels | labels)
    claimed = current(engine)
    if claimed is None or claimed.process != process:
        raise taken(claimed.root if claimed else Path("another checkout"))


def taken(root: Path) -> PreflightFailed:
    """Return the error for an engine claimed by another checkout's live sandbox."""
    return PreflightFailed(
        "Another checkout's sandbox is up; only one can run at a time.",
        observed=f"the sandbox of {root}",
        next=f"cd {root} && daybook sandbox down",
    )


def reap(engine: DockerClient, root: Path) -> list[str]:
    """Remove all remains of a checkout's sandbox from the engine; return their names."""
    filters = {"label": f"{LABEL}={root}"}
    containers = engine.containers.list(all=True, filters=filters)
    networks = engine.networks.list(filters=filters)
    for container in containers:
        container.remove(v=True, force=True)
    for network in networks:
        network.remove()
    if tools := image.any_tools(engine):
        edge.remove_rules(engine, tools)
    volumes = engine.volumes.list(filters=filters)
    for volume in volumes:
        volume.remove(force=True)
    return [item.name for item in (*containers, *networks, *volumes)]
