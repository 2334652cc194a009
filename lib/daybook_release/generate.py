"""From the developers' compose file to the one that a host runs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook_release import limits, rules
from daybook_release.variables import mapping

SLOTS = ("blue", "green")
ROTATES = {"max-size": "10m", "max-file": "3"}
LEFT_OUT = ("build", "env_file", "profiles", "pull_policy")
"""Keys of a service that mean nothing on a host, or are done here."""


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
    """Return the file that starts a release in a slot; values are in it by `names` only.

    It has the keys that the rules know and no others. What has a short form of its own grammar
    is written out, so that Compose has nothing to interpret.
    """
    web = rules.wishes(model).web
    here = slot_service(web, slot)
    made: dict[str, Any] = {"name": app, "services": {}}
    for kind, keys in (("volumes", rules.VOLUME), ("networks", rules.NETWORK)):
        if model.get(kind):
            made[kind] = {name: _kept(each or {}, keys) for name, each in model[kind].items()}
    for name, said in model["services"].items():
        service = _kept(said, {"image", *rules.SERVICE} - {*LEFT_OUT})
        if "env_file" in said or "environment" in service:
            known = dict.fromkeys(names) if said.get("env_file") else {}
            service["environment"] = known | mapping(said.get("environment"))
        if "depends_on" in service:
            service["depends_on"] = _renamed(service["depends_on"], web, here)
        service |= _bounded(service)
        if "logging" in service:
            service["logging"] = _rotated(service["logging"])
        if "volumes" in service:
            service["volumes"] = [rules.long_mount(mount) for mount in service["volumes"]]
        if "ports" in service and name != web:
            service["ports"] = [rules.long_port(port) for port in service["ports"]]
        if rules.is_own(said):
            service["labels"] = mapping(said.get("labels")) | {"daybook.release": release}
        if name == web:
            inside = int(rules.web_port(said))
            service["ports"] = [rules.long_port(f"127.0.0.1:{port}:{inside}")]
            service["restart"] = "unless-stopped"
        made["services"][here if name == web else name] = service | {"pull_policy": "never"}
    return made


def difference(model: rules.Model, made: rules.Model) -> str:
    """Return what was changed in the developers' file, as a unified diff."""
    sides = [list(_lines(side)) for side in (model, made)]
    names = ("compose.yaml, as the developers have it", "as the host runs it")
    return "\n".join(difflib.unified_diff(*sides, *names, lineterm=""))


def _kept(entries: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Leave out what says nothing, and every other key."""
    return {k: value for k, value in entries.items() if k in keys and value is not None}


def _rotated(logging: Mapping[str, Any]) -> dict[str, Any]:
    """Let a log rotate, as the engine's own driver does unless a service names one."""
    options = logging.get("options") or {}
    return {**logging, "options": ROTATES | _kept(options, options)}


def _bounded(service: Mapping[str, Any]) -> dict[str, Any]:
    """Limit the processes of a container, as Docker does not; Compose wants both keys to agree."""
    deploy = service.get("deploy") or {}
    resources = deploy.get("resources") or {}
    bounds = resources.get("limits")
    most = int(service.get("pids_limit") or (bounds or {}).get("pids") or limits.USUAL_PROCESSES)
    if bounds is None:
        return {"pids_limit": most}
    resources = {**resources, "limits": {**bounds, "pids": most}}
    return {"pids_limit": most, "deploy": {**deploy, "resources": resources}}


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
