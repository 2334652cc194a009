"""Generate the compose model that a host runs from the developers' compose file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook_release import limits, rules
from daybook_release.variables import mapping

SLOTS = ("blue", "green")
ROTATION = {"max-size": "10m", "max-file": "3"}
OMITTED = ("build", "env_file", "profiles", "pull_policy")
"""Keys of a service that have no effect on a host, or that are applied here."""


@dataclass(frozen=True)
class ServiceKinds:
    """The services of a compose file, by how they are released."""

    web: str
    workers: tuple[str, ...]
    accessories: tuple[str, ...]


def service_kinds(model: rules.Model) -> ServiceKinds:
    """Sort a file's services by kind; a service with a profile is not started."""
    web = rules.release_options(model).web
    others = {n: s for n, s in model["services"].items() if n != web and not s.get("profiles")}
    own = tuple(name for name, service in others.items() if rules.is_own(service))
    return ServiceKinds(web, own, tuple(name for name in others if name not in own))


def slot_service(web: str, slot: str) -> str:
    """Return the name of the web service in a slot: web-blue."""
    return f"{web}-{slot}"


def generate(
    model: rules.Model, *, app: str, release: str, slot: str, port: int, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return the model that starts a release in a slot. names: the variables of `env_file: .env`.

    It has only keys that the rules allow, and variables instead of their values. Short forms are
    expanded, so that Compose has nothing left to interpret.
    """
    web = rules.release_options(model).web
    slot_name = slot_service(web, slot)
    generated: dict[str, Any] = {"name": app, "services": {}}
    for kind, keys in (("volumes", rules.VOLUME), ("networks", rules.NETWORK)):
        if model.get(kind):
            generated[kind] = {
                name: _select(definition or {}, keys) for name, definition in model[kind].items()
            }
    for name, definition in model["services"].items():
        service = _select(definition, {"image", *rules.SERVICE} - {*OMITTED})
        if "env_file" in definition or "environment" in service:
            known = dict.fromkeys(names) if definition.get("env_file") else {}
            service["environment"] = known | mapping(definition.get("environment"))
        if "depends_on" in service:
            service["depends_on"] = _rename_web(service["depends_on"], web, slot_name)
        service |= _process_limit(service)
        if "logging" in service:
            service["logging"] = _with_rotation(service["logging"])
        if "volumes" in service:
            service["volumes"] = [rules.long_mount(mount) for mount in service["volumes"]]
        if "ports" in service and name != web:
            service["ports"] = [rules.long_port(port) for port in service["ports"]]
        if rules.is_own(definition):
            service["labels"] = mapping(definition.get("labels")) | {"daybook.release": release}
        if name == web:
            inside = int(rules.web_port(definition))
            service["ports"] = [rules.long_port(f"127.0.0.1:{port}:{inside}")]
            service["restart"] = "unless-stopped"
        generated["services"][slot_name if name == web else name] = service | {
            "pull_policy": "never"
        }
    return generated


def difference(model: rules.Model, generated: rules.Model) -> str:
    """Return the changes to the developers' file as a unified diff."""
    sides = [list(_yaml_lines(side)) for side in (model, generated)]
    names = ("compose.yaml in the image", "compose model on the host")
    return "\n".join(difflib.unified_diff(*sides, *names, lineterm=""))


def _select(entries: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """Return the entries with these keys, except null values."""
    return {k: value for k, value in entries.items() if k in keys and value is not None}


def _with_rotation(logging: Mapping[str, Any]) -> dict[str, Any]:
    """Rotate a service's log as the engine rotates logs without a `logging` key."""
    options = logging.get("options") or {}
    return {**logging, "options": ROTATION | _select(options, options)}


def _process_limit(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return a limit for a container's processes. Compose requires the same value in both keys."""
    deploy = service.get("deploy") or {}
    resources = deploy.get("resources") or {}
    resource_limits = resources.get("limits")
    limit = int(
        service.get("pids_limit") or (resource_limits or {}).get("pids") or limits.USUAL_PROCESSES
    )
    if resource_limits is None:
        return {"pids_limit": limit}
    resources = {**resources, "limits": {**resource_limits, "pids": limit}}
    return {"pids_limit": limit, "deploy": {**deploy, "resources": resources}}


def _rename_web(dependencies: Any, web: str, slot_name: str) -> Any:
    if isinstance(dependencies, Mapping):
        return {
            slot_name if name == web else name: condition
            for name, condition in dependencies.items()
        }
    return [slot_name if name == web else name for name in dependencies]


def _yaml_lines(value: Any, indent: int = 0) -> Iterator[str]:
    """Yield a value as lines that look like YAML."""
    pad = "  " * indent
    for key, item in value.items() if isinstance(value, Mapping) else ():
        if isinstance(item, Mapping) and item:
            yield f"{pad}{key}:"
            yield from _yaml_lines(item, indent + 1)
        else:
            yield f"{pad}{key}: {json.dumps(item, ensure_ascii=False)}"
