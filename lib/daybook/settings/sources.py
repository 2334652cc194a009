"""Where each of an environment's settings comes from: a line of its file, a default, a variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from daybook import settings
from daybook.settings import Freeze, Settings
from daybook.target import Target, ssh_key

DEFAULT = "default"
NONE = "none"


@dataclass(frozen=True)
class SettingSource:
    """One setting as it will be used: `Setting("instance.type", "t3.small", "default")`."""

    key: str
    value: str
    origin: str


def resolve(root: Path, env: str, chosen: Settings, target: Target) -> list[SettingSource]:
    """Return every setting as a run would use it, in the order of the model."""
    file = root / "environments" / f"{env}.yml"
    lines = settings.lines(root, env)
    instead = _overridden(chosen, target)
    return [
        SettingSource(".".join(at), *instead.get(at, (_text(value), _origin(at, file.name, lines))))
        for at, value in _leaves(chosen)
    ]


def _overridden(chosen: Settings, target: Target) -> dict[tuple[str, ...], tuple[str, str]]:
    """Return what the environment of the tools says in place of the file."""
    is_led = target.is_sandbox and target.is_up
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    if target.region != chosen.region:
        found[("region",)] = (target.region, ".sandbox/target.env")
    if target.environ.get("DAYBOOK_SSH_KEY"):
        origin = ".sandbox/target.env" if is_led else "$DAYBOOK_SSH_KEY"
        found[("ssh_key",)] = (str(ssh_key(chosen, target)), origin)
    return found


def _leaves(value: BaseModel | Mapping, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple, Any]]:
    for key, inner in value.items() if isinstance(value, Mapping) else value:
        if isinstance(inner, BaseModel) or (isinstance(inner, Mapping) and inner):
            yield from _leaves(inner, (*at, key))
        else:
            yield (*at, key), inner


def _origin(at: tuple[str, ...], file: str, lines: Mapping[tuple, int]) -> str:
    return f"environments/{file}:{lines[at]}" if at in lines else DEFAULT


def _text(value: Any) -> str:
    if isinstance(value, Freeze):
        return f"{value.since.isoformat()} to {value.until.isoformat()}: {value.reason}"
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or NONE
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value or value == 0 else NONE
