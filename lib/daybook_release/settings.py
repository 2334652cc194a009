"""The settings of this host and its application, written by Ansible."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from daybook_release.errors import Refused

PATH = Path("/etc/daybook/release.json")


@dataclass(frozen=True)
class HostSettings:
    """`/etc/daybook/release.json`. names: in Caddy's form, with or without a scheme."""

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
        """Return the host name that visitors use."""
        return self.names[0].partition("://")[2] or self.names[0]

    @property
    def scheme(self) -> str:
        """Return the scheme that visitors use."""
        return "http" if self.names[0].startswith("http://") else "https"


def parse(text: str) -> HostSettings:
    """Parse the settings; raise Refused if a key is missing or unknown."""
    try:
        fields = json.loads(text)
        lists = {key: tuple(fields[key]) for key in ("names", "secrets") if key in fields}
        return HostSettings(**{**fields, **lists})
    except (ValueError, TypeError) as err:
        raise Refused(
            f"{PATH} is not valid for this version of the program: {err}", next=CONFIGURE
        ) from err


def load(path: Path = PATH) -> tuple[HostSettings, str]:
    """Read the settings; return them with their text."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise Refused(f"Cannot read {path}: {err.strerror}", next=CONFIGURE) from err
    return parse(text), text


def digest(text: str) -> str:
    """Return the digest that identifies one version of the settings."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


CONFIGURE = "configure the host again: daybook run configure"
