"""Find access to the host in a compose file, independently of the release's rules.

A list of dangerous settings after the Compose specification, while the rules are lists of allowed
ones. Reads a file after interpolation, or the output of `docker compose config`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

HOST_KEYS = [
    "annotations",
    "blkio_config",
    "build",
    "cgroup",
    "cgroup_parent",
    "configs",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "credential_spec",
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "env_file",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "ipc",
    "isolation",
    "label_file",
    "links",
    "mac_address",
    "models",
    "oom_kill_disable",
    "pid",
    "post_start",
    "pre_stop",
    "privileged",
    "provider",
    "runtime",
    "secrets",
    "storage_opt",
    "userns_mode",
    "uts",
    "volumes_from",
]
USUAL = {"private", "", None, False}
CAPABILITIES = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
]


def gains(file: Mapping[str, Any], *, app: str, image: str) -> list[str]:
    """Return the access to the host that a file gives its containers; empty if it is safe."""
    return [
        *(f"top-level {key}" for key in set(file) - {"name", "services", "volumes", "networks"}),
        *_variables(file),
        *_of_project(file, app),
        *(
            f"{name}: {gain}"
            for name, service in file["services"].items()
            for gain in _of_service(name, service, file, image)
        ),
    ]


def _variables(file: Mapping[str, Any]) -> Iterator[str]:
    if "$" in json.dumps(file).replace("$$", ""):
        yield "a variable remains"


def _of_project(file: Mapping[str, Any], app: str) -> Iterator[str]:
    if file.get("name") != app:
        yield "another project"
    for kind, drivers in (("volumes", ("local", None)), ("networks", ("bridge", None))):
        for key, entry in (file.get(kind) or {}).items():
            entry = entry or {}
            if entry.get("external") or entry.get("driver_opts"):
                yield f"{kind} {key}: uses resources of the host"
            if (entry.get("ipam") or {}).get("config") or entry.get("driver") not in drivers:
                yield f"{kind} {key}: another driver or address"
            if entry.get("name") not in (None, f"{app}_{key}"):
                yield f"{kind} {key}: the name of another resource"
            if any(entry.get(word) for word in ("attachable", "enable_ipv6", "config_only")):
                yield f"{kind} {key}: open to other projects"
            yield from _labels(entry.get("labels"))


def _of_service(
    name: str, service: Mapping[str, Any], file: Mapping[str, Any], image: str
) -> Iterator[str]:
    if not re.match(r"[A-Za-z0-9]", name):
        yield "the name is an option or a path"
    for key in HOST_KEYS:
        value = service.get(key)
        if value not in ([], {}) and value not in USUAL:
            yield f"{key}: {value!r}"
    if service.get("network_mode") not in (None, "none"):
        yield "the network of another container"
    for network in service.get("networks") or ():
        if network != "default" and network not in (file.get("networks") or {}):
            yield "an undeclared network"
    for options in dict(service.get("networks") or {}).values() if _is_map(service) else ():
        if set(options or ()) - {"aliases", "priority"}:
            yield "a chosen address"
    yield from _image(str(service.get("image")), image)
    yield from _mounts(service, file)
    yield from _ports(service)
    yield from _labels(service.get("labels"))
    yield from _privileges(service)
    yield from _limits(service)


def _is_map(service: Mapping[str, Any]) -> bool:
    return isinstance(service.get("networks"), Mapping)


def _image(reference: str, released: str) -> Iterator[str]:
    if reference == released:
        return
    first, slash, _ = reference.partition("/")
    if slash and (":" in first or "." in first or first == "localhost"):
        host = first.partition(":")[0]
        try:
            ipaddress.ip_address(host)
            yield f"image of an address: {reference}"
        except ValueError:
            if host.rpartition(".")[2] in ("localhost", "local", "internal") or ":" in first:
                yield f"image of a local name: {reference}"
    if not re.search(r"[^:]+:(?!latest$)[\w.-]+$|@sha256:[0-9a-f]{64}$", reference):
        yield f"image that may change: {reference}"


def _mounts(service: Mapping[str, Any], file: Mapping[str, Any]) -> Iterator[str]:
    for mount in service.get("volumes") or ():
        if not isinstance(mount, Mapping) or mount.get("type") not in ("volume", "tmpfs"):
            yield f"mount {mount!r}"
        elif mount.get("source") and mount["source"] not in (file.get("volumes") or {}):
            yield f"an undeclared volume: {mount!r}"
        elif (mount.get("volume") or {}).get("subpath") or mount.get("bind"):
            yield f"mount {mount!r}"


def _ports(service: Mapping[str, Any]) -> Iterator[str]:
    for port in service.get("ports") or ():
        if not isinstance(port, Mapping) or port.get("host_ip") not in ("127.0.0.1", "::1"):
            yield f"port {port!r} is open to the world"
        elif not re.fullmatch(r"[0-9]+", str(port.get("published"))):
            yield f"port {port!r} is a range"
        elif int(port["published"]) < 1024 or int(port["published"]) == 2019:
            yield f"port {port!r} belongs to the host"


def _labels(labels: Any) -> Iterator[str]:
    names = labels if isinstance(labels, Mapping) else [str(label) for label in labels or ()]
    for name in names:
        is_reserved = name.lower().startswith(("com.docker.", "io.docker.", "daybook."))
        if is_reserved and name != "daybook.release":
            yield f"label {name}"


def _privileges(service: Mapping[str, Any]) -> Iterator[str]:
    for capability in service.get("cap_add") or ():
        if str(capability).upper().removeprefix("CAP_") not in CAPABILITIES:
            yield f"capability {capability}"
    for option in service.get("security_opt") or ():
        if not re.fullmatch(r"no-new-privileges([:=]true)?", str(option)):
            yield f"security option {option}"
    if int(service.get("oom_score_adj") or 0) < 0:
        yield "other processes are killed first"
    if {"nice", "rtprio"} & set(service.get("ulimits") or ()):
        yield "a larger CPU share"
    sysctls = service.get("sysctls") or ()
    for name in sysctls:
        if not name.startswith("net.") or name.startswith("net.ipv4.conf"):
            yield f"kernel setting {name}"
    logging = service.get("logging") or {}
    if logging.get("driver") not in (None, "json-file", "local"):
        yield f"logging {logging}"
    if any(not re.fullmatch(r"[\w-]+", str(value)) for value in _values(logging.get("options"))):
        yield f"logging {logging}"
    resources = (service.get("deploy") or {}).get("resources") or {}
    if any((part or {}).get("devices") for part in resources.values()):
        yield "a device"
    environment = service.get("environment") or {}
    if not isinstance(environment, Mapping) or None in environment.values():
        yield "a variable from the environment of Compose"


def _limits(service: Mapping[str, Any]) -> Iterator[str]:
    deploy = service.get("deploy") or {}
    limits = (deploy.get("resources") or {}).get("limits") or {}
    for processes in (service.get("pids_limit"), limits.get("pids", 1)):
        if not 1 <= int(processes or 0) <= 4096:
            yield "unlimited processes"
    if int(service.get("cpu_shares") or 0) > 1024:
        yield "a larger CPU share"
    if re.search(r"[-_][0-9]+$", str(service.get("container_name"))):
        yield "a name in Compose's format"
    buffer = ((service.get("logging") or {}).get("options") or {}).get("max-buffer-size", "1m")
    if not re.fullmatch(r"1?[0-9]m|[0-9]{1,5}k", str(buffer).lower()):
        yield "memory of dockerd"
    if max(int(service.get("scale") or 1), int(deploy.get("replicas") or 1)) > 10:
        yield "hundreds of containers"
    check = service.get("healthcheck") or {}
    for key in ("interval", "start_interval"):
        if re.search(r"us|^[0-9]{1,2}(\.[0-9]+)?ms$", str(check.get(key))):
            yield f"constant health checks: {key}"
    for key in ("start_period", "interval", "timeout"):
        if re.search(r"[0-9]{3,}(\.[0-9]+)?m(?!s)|[1-9][0-9.]*h", str(check.get(key))):
            yield f"hours of {key}"
    if re.search(r"[0-9]{3,}m(?!s)|[1-9][0-9.]*h", str(service.get("stop_grace_period"))):
        yield "hours to stop"


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, Mapping) else []
