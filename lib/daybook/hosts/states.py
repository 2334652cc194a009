"""The releases of each host, and the serving one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from daybook.hosts import client


@dataclass(frozen=True)
class HostState:
    """The state and the releases of a host, newest first."""

    host: client.Host
    status: client.HostStatus
    releases: tuple[client.Release, ...]

    @property
    def current(self) -> client.Release | None:
        """Return the serving release; None before the first."""
        return next((r for r in self.releases if r.id == self.status.current), None)

    @property
    def version(self) -> str:
        """Return the version that the host serves, or "nothing"."""
        return self.current.version if self.current else "nothing"

    def serves(self, digest: str, secrets: Mapping[str, int]) -> bool:
        """Tell whether the host serves this image with these secrets and its current settings."""
        release = self.current
        if release is None or not self.status.healthy:
            return False
        is_configured = release.settings == (self.status.settings or release.settings)
        return (release.digest, dict(release.secrets)) == (digest, dict(secrets)) and is_configured


def host_states(hosts: Iterable[client.Host]) -> list[HostState]:
    """Read the status and the releases of each host."""
    return [HostState(host, host.status(), host.releases()) for host in hosts]
