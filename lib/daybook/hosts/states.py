"""The releases of each host, and the one that it serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from daybook.hosts import client


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


def host_states(hosts: Iterable[client.Host]) -> list[HostState]:
    """Ask each host for its status and its releases."""
    return [HostState(host, host.status(), host.releases()) for host in hosts]
