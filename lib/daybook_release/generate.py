"""From the developers' compose file to the one that a host runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook_release import rules

SLOTS = ("blue", "green")
VARIABLES = ("APP_NAME", "APP_IMAGE", "APP_VERSION", "APP_ENVIRONMENT", "APP_HOST", "APP_PORT")
"""What every release says to the application, besides the secrets."""


@dataclass(frozen=True)
class Kinds:
    """The services of a file by how they are released."""

    web: str
    workers: tuple[str, ...]
    accessories: tuple[str, ...]


def kinds(model: rules.Model) -> Kinds:
    """Sort a file's services; those with a profile are for people and not started."""
    web = rules.wishes(model).web
    others = {n: s for n, s in model["services"].items() if n != web and not s.get("profiles")}
    own = tuple(name for name, service in others.items() if rules.is_own(service))
    return Kinds(web, own, tuple(name for name in others if name not in own))


def slot_service(web: str, slot: str) -> str:
    """Return what the web service is called in a slot: web-blue."""
    return f"{web}-{slot}"


def generated(
    model: rules.Model, *, app: str, release: str, slot: str, port: int, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return the file that starts a release in a slot; secrets are in it by `names` only."""
    web = rules.wishes(model).web
    here = slot_service(web, slot)
    made = {k: v for k, v in model.items() if not k.startswith("x-")} | {"name": app}
    made["services"] = {}
    for name, said in model["services"].items():
        service = {k: v for k, v in said.items() if k not in ("build", "env_file", "profiles")}
        if "env_file" in said:
            service["environment"] = _with_names(said.get("environment"), names)
        if "depends_on" in said:
            service["depends_on"] = _renamed(said["depends_on"], web, here)
        if rules.is_own(said):
            service["labels"] = _mapping(said.get("labels")) | {"daybook.release": release}
        if name == web:
            inside = rules.web_port(said)
            service |= {"ports": [f"127.0.0.1:{port}:{inside}"], "restart": "unless-stopped"}
        made["services"][here if name == web else name] = service
    return made


def difference(model: rules.Model, made: rules.Model) -> str:
    """Return what was changed in the developers' file, as a unified diff."""
    sides = [list(_lines(side)) for side in (model, made)]
    names = ("compose.yaml, as the developers have it", "as the host runs it")
    return "\n".join(difflib.unified_diff(*sides, *names, lineterm=""))


def _with_names(said: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Put every name where the file asks for .env; the values come from the starting process."""
    return dict.fromkeys(names) | _mapping(said)


def _mapping(said: Any) -> dict[str, Any]:
    """Return what may be written as a list of NAME=value too."""
    if isinstance(said, Mapping):
        return dict(said)
    pairs = (str(each).partition("=") for each in said or ())
    return {name: value if equals else None for name, equals, value in pairs}


def _renamed(said: Any, web: str, here: str) -> Any:
    if isinstance(said, Mapping):
        return {here if name == web else name: how for name, how in said.items()}
    return [here if name == web else name for name in said]


def _lines(value: Any, indent: int = 0) -> Iterator[str]:
    """Write a value as lines that look like YAML."""
    pad = "  " * indent
    for key, each in value.items() if isinstance(value, Mapping) else ():
        if isinstance(each, Mapping) and each:
            yield f"{pad}{key}:"
            yield from _lines(each, indent + 1)
        else:
            yield f"{pad}{key}: {json.dumps(each, ensure_ascii=False)}"
