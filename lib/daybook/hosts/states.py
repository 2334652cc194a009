"""The hosts of an environment as releases know them: which there are, and what each serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daybook import process, settings
from daybook.hosts import client, inventory, located
from daybook.settings import Settings
from daybook.steps import common
from daybook.target import Target, resolve, ssh_key


@dataclass(frozen=True)
class Place:
    """An environment and where it is, for somebody who runs no step in it."""

    env: str
    root: Path
    settings: Settings
    target: Target

    @classmethod
    def of(cls, root: Path, env: str, *, rehearse: bool = False) -> Place:
        """Return the place of an environment by its name."""
        chosen = settings.load(root, env)
        return cls(env, root, chosen, resolve(chosen, root, rehearse=rehearse))


@dataclass(frozen=True)
class HostState:
    """What a host serves, and every release it knows, the newest first."""

    host: client.Host
    status: client.Status
    releases: tuple[client.Release, ...]

    @property
    def current(self) -> client.Release | None:
        """Return the release that serves; None before the first."""
        return next((each for each in self.releases if each.id == self.status.current), None)

    @property
    def version(self) -> str:
        """Return what the host serves, in a word."""
        return self.current.version if self.current else "nothing"

    def serves(self, digest: str, secrets: Mapping[str, int]) -> bool:
        """Tell whether this image runs here already, with these secrets and today's settings."""
        now = self.current
        if now is None or not self.status.healthy:
            return False
        is_configured = now.settings == (self.status.settings or now.settings)
        return (now.digest, dict(now.secrets)) == (digest, dict(secrets)) and is_configured


def of(place: common.Place, start: process.Start = process.run) -> list[client.Host]:
    """Return an environment's hosts, in the order of its inventory, which is written anew."""
    path = located.refresh(place)
    key, known_hosts = ssh_key(place.settings, place.target), common.known_hosts_path(place)
    return [
        client.Host(name, address, key, known_hosts, place.target.environ, start)
        for name, address in inventory.read(path).items()
    ]


def host_states(place: common.Place, start: process.Start = process.run) -> list[HostState]:
    """Ask every host of an environment what it serves."""
    return [HostState(host, host.status(), host.releases()) for host in of(place, start)]
