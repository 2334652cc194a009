"""What Ansible wrote about this host and its application."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from daybook_release.errors import Refused

PATH = Path("/etc/daybook/release.json")


@dataclass(frozen=True)
class Settings:
    """`/etc/daybook/release.json`. names: as Caddy takes them, with or without a scheme."""

    app: str
    environment: str
    host: str
    repository: str
    region: str
    names: tuple[str, ...]
    port: int
    parameters: str
    secrets: tuple[str, ...] = ()
    keep: int = 5

    @property
    def name(self) -> str:
        """Return the name that visitors ask for."""
        return self.names[0].partition("://")[2] or self.names[0]

    @property
    def scheme(self) -> str:
        """Return what a visitor's address begins with."""
        return "http" if self.names[0].startswith("http://") else "https"


def parse(text: str) -> Settings:
    """Return the settings of a text; Refused when something is missing or unknown."""
    try:
        found = json.loads(text)
        lists = {key: tuple(found[key]) for key in ("names", "secrets") if key in found}
        return Settings(**{**found, **lists})
    except (ValueError, TypeError) as err:
        raise Refused(f"{PATH} is not what the program expects: {err}", next=CONFIGURE) from err


def load(path: Path = PATH) -> tuple[Settings, str]:
    """Return the settings and their text."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise Refused(f"{path} cannot be read: {err.strerror}", next=CONFIGURE) from err
    return parse(text), text


def digest(text: str) -> str:
    """Return what names one version of the settings."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


CONFIGURE = "configure the host again: daybook run configure"
