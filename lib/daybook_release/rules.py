"""Rules for a compose file that can be released without downtime and gives no access to the host.

Every level is an allow-list. The same rules apply to the file as developers write it, on a laptop
and on the host, and to the rendered model as `docker compose config` prints it; see
`RenderedValues`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daybook_release import limits, variables
from daybook_release.document import Path, shown
from daybook_release.validators import (
    NAME,
    ComposeProblem,
    RenderedValues,
    Validator,
    any_text,
    anything,
    duration,
    key_of,
    list_of,
    named,
    names_of,
    number,
    one_of,
    one_or_list_of,
    pairs,
    seconds,
    table,
    text,
    wrong,
)

Model = Mapping[str, Any]

IMAGE = re.compile(r"\$(?:APP_IMAGE|\{APP_IMAGE(?::?-[\w./:@-]*)?\})", re.ASCII)
PORT = re.compile(
    r"(?:127\.0\.0\.1|\[::1\]):\$(?:APP_PORT|\{APP_PORT(?::?-[0-9]+)?\}):([0-9]{1,5})(?:/tcp)?"
)
PORT_FIX = "write 127.0.0.1:${APP_PORT:-8000}:8000"
DEFAULT_S = {"interval": 30.0, "timeout": 30.0, "start_period": 0.0}
"""Docker's defaults: https://docs.docker.com/reference/dockerfile/#healthcheck"""

DEFAULT_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
"""Capabilities that a container has by default, so that adding one gains nothing."""

PART = r"[a-z0-9]+(?:(?:_{1,2}|-+)[a-z0-9]+)*"
PART_WITH_DOTS = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
REGISTRY = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?!local/|localhost/|internal/)[a-z]{2,}"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
PINNED = re.compile(
    rf"(?!sha256:|localhost/)(?:{REGISTRY}/{PART_WITH_DOTS}|{PART}(?=/)|{PART_WITH_DOTS}(?!/))"
    rf"(?:/{PART_WITH_DOTS})*(?::(?!latest$){TAG}|(?::{TAG})?@sha256:[0-9a-f]{{64}})"
)
"""An image by digest or by a tag other than latest.

It comes from Docker Hub or from a registry with a DNS name. An address is refused, because the
engine would also send requests to an address of the host.
"""


@dataclass(frozen=True)
class ReleaseOptions:
    """The options of a release, from `x-release` in the compose file."""

    web: str
    health: str = "/"
    version: str = ""
    migrate: tuple[str, ...] = ()
    drain_s: float = 30.0


def release_options(model: Model) -> ReleaseOptions:
    """Return the options in a file's `x-release`, with defaults; `problems` checks them."""
    extension = dict(_as_mapping(model.get("x-release")))
    drain = seconds(extension.pop("drain", "30s"))
    migrate = extension.pop("migrate", None)
    words = (
        ("sh", "-c", migrate) if isinstance(migrate, str) else tuple(map(str, _as_list(migrate)))
    )
    known = {key: str(extension[key]) for key in ("health", "version") if extension.get(key)}
    web = str(extension.get("web") or _default_web(model))
    return ReleaseOptions(
        web, migrate=words if migrate else (), drain_s=30.0 if drain is None else drain, **known
    )


def is_own(service: Model) -> bool:
    """Tell whether a service runs the application's image."""
    return bool(IMAGE.fullmatch(str(service.get("image", ""))))


def problems(model: Model, rendered: RenderedValues | None = None) -> list[ComposeProblem]:
    """Return all reasons to refuse a file; empty if it can be released."""
    all_problems = [] if rendered else list(_variable_problems(model))
    all_problems += [*FILE(model, (), rendered), *_service_problems(model, rendered)]
    unique: dict[Path, ComposeProblem] = {}
    for problem in all_problems:
        unique.setdefault(problem.path[:4], problem)
    return list(unique.values())


def unknown(model: Model, names: Collection[str]) -> list[ComposeProblem]:
    """Return a problem for each variable that needs a value and is not in `names`."""
    problems = []
    for service, key, value in _environments(model):
        required = {key} if value is None else _required(value)
        for name in sorted(required - set(names)):
            fix = f"declare it under secrets: in the environment's settings, or write ${{{name}:-}}"
            path = ("services", service, "environment", key)
            problems.append(ComposeProblem(path, f"{shown(name)} has no value", fix))
    return problems


def long_mount(mount: Any) -> Any:
    """Expand a mount in the short form, such as data:/data:ro."""
    if isinstance(mount, Mapping):
        return mount
    match = MOUNT.fullmatch(mount)
    if match is None:
        raise ValueError("not a volume mount")
    long_form: dict[str, Any] = {"type": "volume", "target": match["target"] or match["anonymous"]}
    modes = (match["how"] or "").split(",")
    return (
        long_form
        | ({"source": match["source"]} if match["source"] else {})
        | ({"read_only": True} if "ro" in modes else {})
        | ({"volume": {"nocopy": True}} if "nocopy" in modes else {})
    )


def long_port(port: Any) -> Any:
    """Expand a port in the short form, such as 127.0.0.1:5432:5432/tcp."""
    if isinstance(port, Mapping):
        return port
    match = LOOPBACK.fullmatch(port)
    if match is None:
        raise ValueError("not a loopback port")
    return {
        "mode": "ingress",
        "host_ip": match["address"].strip("[]"),
        "published": match["published"],
        "target": int(match["target"]),
        "protocol": match["protocol"] or "tcp",
    }


def web_port(service: Model) -> str:
    """Return the web service's port in its container: "8000"; "" if it is not valid."""
    ports = service.get("ports")
    ports = ports if isinstance(ports, list) else []
    match = PORT.fullmatch(str(ports[0])) if len(ports) == 1 else None
    return match[1] if match and 0 < int(match[1]) < 65536 else ""


def health_timeout_s(service: Model) -> float:
    """Return how long Docker may take to mark a service unhealthy."""
    check = _as_mapping(service.get("healthcheck"))
    set_s = {key: seconds(check.get(key)) for key in DEFAULT_S}
    times_s = {key: set_s[key] or DEFAULT_S[key] for key in DEFAULT_S}
    retries = check.get("retries")
    attempts = int(retries) if re.fullmatch(r"[1-9][0-9]{0,5}", str(retries)) else 3
    return times_s["start_period"] + attempts * (times_s["interval"] + times_s["timeout"])


def copies(service: Model) -> int:
    """Return the number of containers that a service requests."""
    requested = (_as_mapping(service.get("deploy")).get("replicas"), service.get("scale"))
    numbers = [int(number) for number in requested if re.fullmatch(r"[0-9]{1,9}", str(number))]
    return max(numbers, default=1)


FLAG = one_of(True, False)
COMMAND = one_or_list_of(any_text)
SIZE = text(r"[0-9]{1,15}(?:\.[0-9]{1,3})?\s?(?:[bkmgtBKMGT][bB]?)?", "write a size such as 512m")
SHARE = text(r"[0-9]{1,6}(?:\.[0-9]{1,9})?", "write a number such as 0.5")
LABELS = pairs(
    r"(?!(?i:com\.docker\.|io\.docker\.|org\.dockerproject\.|daybook\.))[A-Za-z0-9][\w./\[\]-]{0,127}",
    "use another name; com.docker. and daybook. are reserved",
)
OWN_LABEL = "daybook.release"


def _labels(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    if rendered and isinstance(value, Mapping):
        value = {key: label for key, label in value.items() if key != OWN_LABEL}
    yield from LABELS(value, path, rendered)


def _project_name(
    value: Any, path: Path, rendered: RenderedValues | None
) -> Iterator[ComposeProblem]:
    """Check the name of a network or volume: only the name that Compose generates."""
    if value is not None and not (rendered and value == f"{rendered.app}_{path[-2]}"):
        yield wrong(path, "remove it: Compose generates the name")


def _env_file(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    for entry in value if isinstance(value, list) else [value]:
        file = entry.get("path") if isinstance(entry, Mapping) else entry
        keys = set(entry) if isinstance(entry, Mapping) else set()
        if entry is not None and (file not in (".env", "./.env") or keys - {"path", "required"}):
            yield wrong(path, "use only .env, which means all secrets")


def _capability(
    value: Any, path: Path, rendered: RenderedValues | None
) -> Iterator[ComposeProblem]:
    if str(value).upper().removeprefix("CAP_") not in DEFAULT_CAPABILITIES:
        yield wrong(path, f"allowed: {', '.join(DEFAULT_CAPABILITIES)}")


def _migration(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    if isinstance(value, (str, list)):
        yield from COMMAND(value, path, rendered)
    elif value is not None:
        yield wrong(path, "write a command, or a list such as [python, -m, app.migrate]")


VOLUME_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{1,62}"
MOUNT = re.compile(
    rf"(?P<source>{VOLUME_NAME}):(?P<target>/[^\s:,$\\]*)(?::(?P<how>(?:ro|rw|nocopy)(?:,nocopy)?))?"
    r"|(?P<anonymous>/[^\s:,$\\]*)",
    re.ASCII,
)
"""A named or an anonymous volume. Compose would read /data:ro as the host's /data."""
INSIDE = text(r"/[^\s:,$\\]*", "write an absolute path in the container")
MOUNT_KEYS = {
    "type": one_of("volume", "tmpfs"),
    "source": text(VOLUME_NAME, "write the name of a volume"),
    "target": INSIDE,
    "read_only": FLAG,
    "volume": table({"nocopy": FLAG}),
    "tmpfs": table({"size": SIZE, "mode": number(0, 0o7777)}),
}


def _mount(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    if isinstance(value, Mapping) and value.get("type") in ("volume", "tmpfs"):
        yield from table(MOUNT_KEYS)(value, path, rendered)
    elif not (isinstance(value, str) and MOUNT.fullmatch(value)):
        message = "the mount could expose files of the host"
        yield ComposeProblem(path, message, "use a named volume such as data:/data, or tmpfs")


LOOPBACK = re.compile(
    r"(?P<address>127\.0\.0\.1|\[::1\]):(?P<published>[0-9]{4,5})"
    r":(?P<target>[0-9]{1,5})(?:/(?P<protocol>tcp|udp))?"
)
PORT_KEYS = {
    "host_ip": one_of("127.0.0.1", "::1"),
    "published": number(1024, 65535),
    "target": number(1, 65535),
    "protocol": one_of("tcp", "udp"),
    "mode": one_of("host", "ingress"),
    "name": text(NAME.pattern, "write a name"),
    "app_protocol": text(NAME.pattern, "write a name"),
}
RESERVED_PORTS = (2019,)
"""The port of Caddy's admin API, which programs of root use."""


def _port(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    fix = "begin it with 127.0.0.1: and publish 1024 or higher, or remove it"
    if isinstance(value, Mapping):
        problems = list(table(PORT_KEYS)(value, path, rendered))
        published = value.get("published")
        is_local = not problems and value.get("host_ip") and value.get("target")
        number = int(published) if is_local and re.fullmatch("[0-9]{1,5}", str(published)) else 0
    else:
        local = LOOPBACK.fullmatch(value) if isinstance(value, str) else None
        number = int(local["published"]) if local and 0 < int(local["target"]) < 65536 else 0
    if not 1024 <= number < 65536:
        yield ComposeProblem(path, "the port would be public and bypass the firewall", fix)
    elif number in RESERVED_PORTS or (rendered and number in rendered.taken):
        yield ComposeProblem(path, f"port {number} of the host is in use", "publish another port")


def _dependencies(
    value: Any, path: Path, rendered: RenderedValues | None
) -> Iterator[ComposeProblem]:
    yield from names_of(
        value,
        path,
        rendered,
        {
            "condition": one_of(
                "service_started", "service_healthy", "service_completed_successfully"
            ),
            "required": FLAG,
            "restart": FLAG,
        },
    )


def _networks(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    options = {"aliases": list_of(text(NAME.pattern, "write a name")), "priority": number(0, 1000)}
    yield from names_of(value, path, rendered, options)


def _megabytes(most_mb: int) -> Validator:
    def check(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
        match = re.fullmatch(r"([1-9][0-9]{0,8})([kKmM])", str(value))
        per_mb = 1024 if match and match[2] in "kK" else 1
        if not match or int(match[1]) > most_mb * per_mb:
            yield wrong(path, f"write a size such as 4m, at most {most_mb}m")

    return check


def _logging_option(
    value: Any, path: Path, rendered: RenderedValues | None
) -> Iterator[ComposeProblem]:
    """Check the options of both logging drivers; none that sets a destination is allowed."""
    options = {
        "max-size": _megabytes(limits.LOG_MB),
        "max-file": number(1, limits.LOG_FILES),
        "compress": text("true|false", 'write "true" or "false"'),
        "mode": one_of("blocking", "non-blocking"),
        "max-buffer-size": _megabytes(limits.LOG_BUFFER_MB),
    }
    yield from table(options)(value, path, rendered)


SYSCTLS = (
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
)
"""Parameters that are separate in each network namespace."""
ULIMITS = re.compile("as|core|cpu|data|fsize|locks|memlock|msgqueue|nofile|nproc|sigpending|stack")
"""Without nice, rtprio and rttime, which could starve other processes on the host."""
ULIMIT = number(-1, 2**40)


def _ulimit(value: Any, path: Path, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    is_pair = isinstance(value, Mapping)
    yield from (table({"soft": ULIMIT, "hard": ULIMIT}) if is_pair else ULIMIT)(
        value, path, rendered
    )


TMPFS_OPTION = (
    "(?:ro|rw|exec|noexec|nosuid|nodev|noatime|(?:size|nr_inodes)=[0-9]{1,12}[kmgKMG%]?"
    "|mode=[0-7]{3,4}|(?:uid|gid)=[0-9]{1,10})"
)
PROCESSES = number(1, limits.PROCESSES)
HEALTHCHECK = {
    "test": COMMAND,
    "interval": duration(limits.HEALTH_S, limits.LEAST_INTERVAL_S),
    "timeout": duration(limits.HEALTH_S),
    "start_period": duration(limits.HEALTH_S),
    "start_interval": duration(limits.HEALTH_S, limits.LEAST_START_INTERVAL_S),
    "retries": number(1, 1000),
    "disable": FLAG,
}
RESOURCES = {
    "limits": table({"cpus": SHARE, "memory": SIZE, "pids": PROCESSES}),
    "reservations": table({"cpus": SHARE, "memory": SIZE}),
}
DEPLOY = {
    "mode": one_of("replicated"),
    "replicas": number(0, limits.COPIES),
    "resources": table(RESOURCES),
    "restart_policy": table(
        {
            "condition": one_of("none", "on-failure", "any"),
            "delay": duration(limits.HEALTH_S),
            "max_attempts": number(0, 1000),
            "window": duration(limits.HEALTH_S),
        }
    ),
    "labels": _labels,
}
SERVICE = {
    "attach": FLAG,
    "build": anything,
    "cap_add": list_of(_capability),
    "cap_drop": list_of(text(r"[A-Za-z_]{1,40}", "write capabilities such as ALL")),
    "cgroup": one_of("private"),
    "command": COMMAND,
    "container_name": text(
        rf"(?!.*[_-][0-9]+\Z){NAME.pattern}",
        "remove it: Compose generates names that end in a number",
    ),
    "cpu_shares": number(2, limits.CPU_SHARES),
    "cpus": SHARE,
    "cpuset": text(r"[0-9]+(?:[-,][0-9]+)*", "write CPUs such as 0-1"),
    "depends_on": _dependencies,
    "deploy": table(DEPLOY),
    "entrypoint": COMMAND,
    "env_file": _env_file,
    "environment": pairs(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", "write names such as LOG_LEVEL"),
    "expose": list_of(text(r"[0-9]{1,5}(?:-[0-9]{1,5})?(?:/(?:tcp|udp))?", "write a port")),
    "group_add": list_of(text(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", "write a group")),
    "healthcheck": table(HEALTHCHECK),
    "hostname": text(NAME.pattern, "write a name"),
    "init": FLAG,
    "ipc": one_of("private"),
    "labels": _labels,
    "logging": table(
        {"driver": one_of("json-file", "local"), "options": _logging_option},
    ),
    "mem_limit": SIZE,
    "mem_reservation": SIZE,
    "mem_swappiness": number(0, 100),
    "memswap_limit": text(r"-1|[0-9]{1,15}\s?[bkmgBKMG]?[bB]?", "write a size such as 1g"),
    "network_mode": one_of("none"),
    "networks": _networks,
    "oom_score_adj": number(0, 1000),
    "pids_limit": PROCESSES,
    "platform": text(r"linux/[a-z0-9]{1,16}(?:/v[0-9])?", "write one such as linux/amd64"),
    "ports": list_of(_port, limits.PORTS),
    "profiles": list_of(text(NAME.pattern, "write a name")),
    "pull_policy": one_of("always", "missing", "if_not_present", "never"),
    "read_only": FLAG,
    "restart": text(
        "no|always|unless-stopped|on-failure(?::[0-9]{1,4})?",
        "write always, unless-stopped or on-failure",
    ),
    "scale": number(0, limits.COPIES),
    "security_opt": list_of(
        text("no-new-privileges(?:[:=]true)?", "allowed: no-new-privileges:true")
    ),
    "shm_size": SIZE,
    "stdin_open": FLAG,
    "stop_grace_period": duration(limits.STOP_S),
    "stop_signal": text(r"(?:SIG)?[A-Z0-9+-]{1,12}|[0-9]{1,2}", "write one such as SIGTERM"),
    "sysctls": pairs("|".join(map(re.escape, SYSCTLS)), f"allowed: {', '.join(SYSCTLS)}"),
    "tmpfs": one_or_list_of(
        text(rf"/[^\s:,$\\]*(?::{TMPFS_OPTION}(?:,{TMPFS_OPTION})*)?", "write one such as /tmp")
    ),
    "tty": FLAG,
    "ulimits": named(ULIMITS, _ulimit),
    "user": text(r"[A-Za-z0-9_.-]{1,32}(?::[A-Za-z0-9_.-]{1,32})?", "write one such as 1000:1000"),
    "volumes": list_of(_mount),
    "working_dir": INSIDE,
}
"""The keys of a service. Any other key could affect the host, or is not reviewed yet."""


VOLUME = {
    "name": _project_name,
    "driver": one_of("local"),
    "labels": _labels,
    "external": one_of(False, fix="remove it: a release creates its own"),
}
NETWORK = {
    **VOLUME,
    "driver": one_of("bridge"),
    "internal": FLAG,
}
FILE = table(
    {
        "name": any_text,
        "version": any_text,
        "services": named(NAME, anything, limits.SERVICES),
        "x-release": table(
            {
                "web": text(NAME.pattern, "write the name of a service"),
                "health": text(r"/[!-~]{0,200}", "begin it with /"),
                "version": text(r"/[!-~]{0,200}", "begin it with /"),
                "migrate": _migration,
                "drain": duration(limits.DRAIN_S),
            }
        ),
        "volumes": named(NAME, table(VOLUME), limits.SERVICES),
        "networks": named(NAME, table(NETWORK), limits.SERVICES),
    },
    extensions=True,
)


def _service_problems(model: Model, rendered: RenderedValues | None) -> Iterator[ComposeProblem]:
    services = _as_mapping(model.get("services"))
    web = rendered.web if rendered else release_options(model).web
    if web not in services:
        fix = "name the web service: x-release: {web: …}"
        yield ComposeProblem(("services",), f"service {shown(web)} does not exist", fix)
    for name, service in services.items():
        path = ("services", name)
        if not isinstance(service, Mapping):
            yield wrong(path, "write a mapping of image, command and so on")
            continue
        rules = {**SERVICE, "ports": anything} if name == web else SERVICE
        yield from _image_problems(service.get("image"), path, rendered)
        yield from table({**rules, "image": anything}, extensions=True)(service, path, rendered)
        yield from _web_problems(path, service, rendered) if name == web else ()
        yield from _reference_problems(path, service, model)
        if name in (f"{web}-blue", f"{web}-green") and not rendered:
            yield ComposeProblem(path, f"{name} is the name of a slot", "choose another name")
        if health_timeout_s(service) > limits.HEALTH_S:
            message = f"start_period + retries * (interval + timeout) exceeds {limits.HEALTH_S} s"
            yield ComposeProblem((*path, "healthcheck"), message, "lower them")
    if sum(map(copies, filter(_is_mapping, services.values()))) > limits.SERVICES:
        message = f"the services have more than {limits.SERVICES} containers in total"
        yield ComposeProblem(("services",), message, "lower replicas or scale")


def _image_problems(
    value: Any, path: Path, rendered: RenderedValues | None
) -> Iterator[ComposeProblem]:
    if not isinstance(value, str) or not value:
        yield ComposeProblem(
            path,
            "the service has no image",
            "write image: ${APP_IMAGE}, build: in compose.override.yaml",
        )
        return
    is_released = value == rendered.image if rendered else IMAGE.fullmatch(value)
    if not is_released and (len(value) > 300 or not PINNED.fullmatch(value)):
        message = "the image is neither the released one nor pinned"
        fix = "write ${APP_IMAGE}, or name:tag with a tag other than latest, or name@sha256:…"
        yield ComposeProblem((*path, "image"), message, fix)


def _web_problems(
    path: Path, service: Model, rendered: RenderedValues | None
) -> Iterator[ComposeProblem]:
    health = _as_mapping(service.get("healthcheck"))
    test = health.get("test")
    is_test = isinstance(test, list) and len(test) > 1 and test[0] in ("CMD", "CMD-SHELL")
    if not (is_test or isinstance(test, str)) or test in ("", "NONE") or health.get("disable"):
        message = f"{shown(path[-1])} has no health check, so its start cannot be verified"
        yield ComposeProblem((*path, "healthcheck"), message, "add a healthcheck with a test")
    image = service.get("image")
    if image and not (image == rendered.image if rendered else is_own(service)):
        message = f"the image of {shown(path[-1])} is not the released image"
        yield ComposeProblem((*path, "image"), message, "write image: ${APP_IMAGE}")
    if not (_is_slot_port(service.get("ports"), rendered) if rendered else web_port(service)):
        yield ComposeProblem((*path, "ports"), "two copies could not run side by side", PORT_FIX)
    if copies(service) != 1:
        key = "scale" if "scale" in service else "deploy"
        yield ComposeProblem((*path, key), "several copies cannot share one port", "set it to 1")
    if service.get("container_name"):
        message = "two copies cannot share one container_name"
        yield ComposeProblem((*path, "container_name"), message, "remove it")
    if service.get("network_mode"):
        yield ComposeProblem((*path, "network_mode"), "Caddy could not reach it", "remove it")


def _is_slot_port(ports: Any, rendered: RenderedValues) -> bool:
    """Tell whether the only port is the slot's, in the form that Compose prints."""
    if not isinstance(ports, list) or len(ports) != 1 or not _is_mapping(ports[0]):
        return False
    port = ports[0]
    address = port.get("host_ip"), str(port.get("published")), port.get("protocol", "tcp")
    return address == ("127.0.0.1", str(rendered.port), "tcp") and not list(
        table(PORT_KEYS)(port, (), rendered)
    )


def _reference_problems(path: Path, service: Model, model: Model) -> Iterator[ComposeProblem]:
    """Refuse a reference to a name that the file does not define."""
    volumes = [
        mount.get("source") if isinstance(mount, Mapping) else _volume_name(str(mount))
        for mount in _as_list(service.get("volumes"))
    ]
    references = {
        "depends_on": (service.get("depends_on"), model.get("services"), ()),
        "networks": (service.get("networks"), model.get("networks"), ("default",)),
        "volumes": ([name for name in volumes if name], model.get("volumes"), ()),
    }
    for key, (names, known, implicit) in references.items():
        for name in names if isinstance(names, (list, Mapping)) else ():
            if isinstance(name, str) and name not in _as_mapping(known) and name not in implicit:
                kind = {"depends_on": "services"}.get(key, key)
                yield ComposeProblem(
                    (*path, key), f"{shown(name)} is not defined in this file", f"add it to {kind}:"
                )


def _variable_problems(model: Model) -> Iterator[ComposeProblem]:
    """Refuse ${…} except in an environment, the released image and the web service's port."""
    web = release_options(model).web
    for name, service in _as_mapping(model.get("services")).items():
        for key, value in _as_mapping(service).items():
            path = ("services", name, key)
            if key in ("environment", "image", "build") or key.startswith("x-"):
                continue
            if not (key == "ports" and name == web):
                yield from _unexpected_variables(value, path)
    for service, key, value in _environments(model):
        try:
            variables.parse(value or "")
        except ValueError:
            path = ("services", service, "environment", key)
            message = f"the variable in {shown(key)} is malformed"
            yield ComposeProblem(
                path, message, "write ${NAME}, ${NAME:-default}, or $$ for a plain $"
            )
    for key in ("volumes", "networks", "x-release"):
        yield from _unexpected_variables(model.get(key), (key,))


def _unexpected_variables(value: Any, path: Path) -> Iterator[ComposeProblem]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unexpected_variables(item, (*path, key))
            yield from _unexpected_variables(key, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unexpected_variables(item, (*path, index))
    elif isinstance(value, str) and variables.has_any(value):
        message = f"the host would substitute a variable in {key_of(path)}"
        fix = "use it in environment:, or write $$ for a $ of the container's shell"
        yield ComposeProblem(path, message, fix)


def _environments(model: Model) -> Iterator[tuple[str, str, str | None]]:
    """Yield each entry of each service's environment: (service, name, value or None)."""
    for name, service in _as_mapping(model.get("services")).items():
        entries = _as_mapping(service).get("environment")
        if not isinstance(entries, (list, Mapping)):
            continue
        for key, value in variables.mapping(entries).items():
            yield name, key, None if value is None else str(value)


def _required(value: str) -> set[str]:
    try:
        return variables.required(value)
    except ValueError:
        return set()  # Reported by _variable_problems.


def _default_web(model: Model) -> str:
    services = _as_mapping(model.get("services")).items()
    candidates = [n for n, s in services if _is_mapping(s) and "healthcheck" in s and "ports" in s]
    return candidates[0] if len(candidates) == 1 else "web"


def _volume_name(mount: str) -> str:
    match = MOUNT.fullmatch(mount)
    return (match["source"] or "") if match else ""


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
