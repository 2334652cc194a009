"""The source of each setting of an environment: a line of its file, a default or a variable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from daybook import settings
from daybook.environment import Environment
from daybook.settings import Freeze

DEFAULT = "default"
NONE = "none"


@dataclass(frozen=True)
class SettingSource:
    """One setting as a run uses it: `SettingSource("instance.type", "t3.small", "default")`."""

    key: str
    value: str
    origin: str


def resolve(environment: Environment) -> list[SettingSource]:
    """Return every setting as a run uses it, in the order of the model."""
    file = f"{environment.name}.yml"
    lines = settings.lines(environment.root, environment.name)
    overridden = _overridden(environment)
    return [
        SettingSource(
            ".".join(key), *overridden.get(key, (_text(value), _origin(key, file, lines)))
        )
        for key, value in _leaves(environment.settings)
    ]


def _overridden(environment: Environment) -> dict[tuple[str, ...], tuple[str, str]]:
    """Return the values that environment variables override, and the source of each."""
    target = environment.target
    values: dict[tuple[str, ...], tuple[str, str]] = {}
    if target.region != environment.settings.region:
        values[("region",)] = (target.region, ".sandbox/target.env")
    if target.environ.get("DAYBOOK_SSH_KEY"):
        is_sandbox = target.is_sandbox and target.is_up
        origin = ".sandbox/target.env" if is_sandbox else "$DAYBOOK_SSH_KEY"
        values[("ssh_key",)] = (str(environment.ssh_key), origin)
    return values


def _leaves(value: BaseModel | Mapping, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple, Any]]:
    for key, inner in value.items() if isinstance(value, Mapping) else value:
        if isinstance(inner, BaseModel) or (isinstance(inner, Mapping) and inner):
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def _origin(path: tuple[str, ...], file: str, lines: Mapping[tuple, int]) -> str:
    return f"environments/{file}:{lines[path]}" if path in lines else DEFAULT


def _text(value: Any) -> str:
    if isinstance(value, Freeze):
        return f"{value.since.isoformat()} to {value.until.isoformat()}: {value.reason}"
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or NONE
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if value or value == 0 else NONE
