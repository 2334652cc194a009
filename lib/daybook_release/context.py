"""The objects that a command works with, assembled once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daybook_release import settings, site, variables
from daybook_release.docker import Container, Docker
from daybook_release.errors import Failed
from daybook_release.generate import slot_service
from daybook_release.progress import ProgressReporter
from daybook_release.rules import ReleaseOptions, release_options
from daybook_release.settings import HostSettings
from daybook_release.site import Caddy, Site
from daybook_release.store import Release, ReleaseStore
from daybook_release.system import HttpResponse, System


@dataclass(frozen=True)
class HostContext:
    """The host, the application's settings on it, and the objects that change it."""

    system: System
    settings: HostSettings
    settings_text: str
    store: ReleaseStore
    docker: Docker
    caddy: Caddy
    progress: ProgressReporter

    def settings_of(self, release: Release) -> HostSettings:
        """Return the settings that were in effect when a release was made."""
        return settings.parse(self.store.text(release.id, "settings.json"))

    def model_of(self, release: Release) -> dict:
        """Return the data of a release's compose file, as the developers wrote it."""
        return json.loads(self.store.text(release.id, "model.json"))

    def options_of(self, release: Release) -> ReleaseOptions:
        return release_options(self.model_of(release))

    def slot_of(self, release: Release) -> str:
        """Return the name of the Compose service that serves a release: web-blue."""
        return slot_service(self.options_of(release).web, release.slot)

    def web_of(self, release: Release) -> Container | None:
        """Return the container that serves a release; None if its slot runs another release."""
        container = self.docker.find(self.slot_of(release))
        return container if container and container.release == release.id else None

    def has_files(self, release: Release) -> bool:
        """Tell whether the files that start a release were written."""
        return self.generated_of(release).is_file()

    def site_of(self, release: Release | None) -> Site:
        """Return the site that Caddy should serve: a release, a placeholder or maintenance."""
        if self.store.in_maintenance:
            return Site(site.closed(self.settings.names, "Down for maintenance. Back soon."))
        if release is None:
            return Site(site.closed(self.settings.names, "Nothing is released yet."))
        host, text = self.settings_of(release), self.store.text(release.id, "site.caddy")
        return Site(text, site.flag(host.app, host.port), is_second=release.port != host.port)

    def generated_of(self, release: Release) -> Path:
        return self.store.folder(release.id) / "generated.json"

    def render(self, release: Release, values: Mapping[str, str]) -> dict[str, Any]:
        """Return the compose model that starts a release, with values; it is never stored."""
        model = json.loads(self.generated_of(release).read_text(encoding="utf-8"))
        try:
            return variables.render(model, values)
        except (KeyError, ValueError) as err:
            raise Failed(
                f"A variable in the compose file of {release.id} has no value.",
                next=f"sudo release deploy {release.image}",
            ) from err

    def get_from_slot(self, release: Release, path: str) -> HttpResponse:
        """Request a path from a release's slot, bypassing Caddy."""
        host = self.settings_of(release)
        return self.system.http_get(release.port, path, host.name, forwarded=host.scheme)

    def get_through_caddy(self, release: Release, path: str) -> HttpResponse:
        """Request a path through Caddy, as a visitor does."""
        host = self.settings_of(release)
        return self.system.http_get(443 if host.scheme == "https" else 80, path, host.name)


def make(system: System, progress: ProgressReporter, root: Path = Path("/srv")) -> HostContext:
    """Read the host's settings and assemble the context."""
    host, text = settings.load()
    store = ReleaseStore(root / host.app, Path(f"/run/lock/{host.app}-release.lock"))
    docker, caddy = Docker(system, host.app), Caddy(system, host.app)
    return HostContext(system, host, text, store, docker, caddy, progress)
