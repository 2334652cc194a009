"""What a command works with, put together once."""

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
from daybook_release.host import Answer, Host
from daybook_release.progress import Progress
from daybook_release.rules import Wishes, wishes
from daybook_release.settings import Settings
from daybook_release.site import Caddy, Site
from daybook_release.store import Release, Store


@dataclass(frozen=True)
class Ground:
    """The host, this application's settings on it, and the parts that act."""

    host: Host
    settings: Settings
    settings_text: str
    store: Store
    docker: Docker
    caddy: Caddy
    progress: Progress

    def settings_of(self, release: Release) -> Settings:
        """Return the settings that a release came with."""
        return settings.parse(self.store.text(release.id, "settings.json"))

    def model_of(self, release: Release) -> dict:
        """Return the developers' compose file of a release."""
        return json.loads(self.store.text(release.id, "model.json"))

    def wishes_of(self, release: Release) -> Wishes:
        return wishes(self.model_of(release))

    def slot_of(self, release: Release) -> str:
        """Return what the service is called that serves a release: web-blue."""
        return slot_service(self.wishes_of(release).web, release.slot)

    def web_of(self, release: Release) -> Container | None:
        """Return the container that serves a release."""
        found = self.docker.find(self.slot_of(release))
        return found if found and found.release == release.id else None

    def has_files(self, release: Release) -> bool:
        """Tell whether a release came as far as having something to start."""
        return self.generated_of(release).is_file()

    def site_of(self, release: Release | None) -> Site:
        """Return what Caddy should do now: lead to a release, to nothing yet, or maintenance."""
        if self.store.in_maintenance:
            return Site(site.closed(self.settings.names, "Down for maintenance. Back soon."))
        if release is None:
            return Site(site.closed(self.settings.names, "Nothing is released yet."))
        its, text = self.settings_of(release), self.store.text(release.id, "site.caddy")
        return Site(text, site.flag(its.app, its.port), is_second=release.port != its.port)

    def generated_of(self, release: Release) -> Path:
        return self.store.folder(release.id) / "generated.json"

    def filled_in(self, release: Release, values: Mapping[str, str]) -> dict[str, Any]:
        """Return the file that starts a release, with its values; it is kept nowhere."""
        made = json.loads(self.generated_of(release).read_text(encoding="utf-8"))
        try:
            return variables.render(made, values)
        except (KeyError, ValueError) as err:
            raise Failed(
                f"The file of {release.id} cannot be filled in.",
                next=f"sudo release deploy {release.image}",
            ) from err

    def ask(self, release: Release, path: str) -> Answer:
        """Ask a release's slot, past Caddy."""
        its = self.settings_of(release)
        return self.host.ask(release.port, path, its.name, forwarded=its.scheme)

    def ask_outside(self, release: Release, path: str) -> Answer:
        """Ask through Caddy, as a visitor would."""
        its = self.settings_of(release)
        return self.host.ask(443 if its.scheme == "https" else 80, path, its.name)


def make(host: Host, progress: Progress, root: Path = Path("/srv")) -> Ground:
    """Read the settings and put the parts together."""
    its, text = settings.load()
    store = Store(root / its.app, Path(f"/run/lock/{its.app}-release.lock"))
    return Ground(host, its, text, store, Docker(host, its.app), Caddy(host, its.app), progress)
