"""What a compose file must be to be released without downtime, and without being root's door.

Read by the host and, before anything is built, by Daybook; so it takes a file both as people
write it and as `docker compose config` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Model = Mapping[str, Any]
Path = tuple[str, ...]

IMAGE = re.compile(r"\$(APP_IMAGE\b|\{APP_IMAGE\b[^}]*\})")
PORT = re.compile(r"(?:127\.0\.0\.1|\[::1\]):\$(?:APP_PORT|\{APP_PORT\b[^}]*\}):(\d+)(?:/tcp)?")
PORT_FIX = "write 127.0.0.1:${APP_PORT:-8000}:8000"

HARMLESS = """
    annotations cap_drop command configs container_name cpu_count cpu_percent cpu_shares cpus
    cpuset depends_on deploy dns dns_opt dns_search domainname entrypoint environment expose
    extra_hosts group_add healthcheck hostname image init labels links logging mem_limit
    mem_reservation mem_swappiness memswap_limit networks oom_kill_disable oom_score_adj
    pids_limit platform profiles pull_policy read_only restart scale secrets shm_size stdin_open
    stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits user working_dir
"""
"""What a service may say freely; what is not here and has no rule of its own is refused."""

DOCKER_GIVES = """
    AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP
    SETGID SETPCAP SETUID SYS_CHROOT
"""
"""Capabilities that a container has anyhow, so that dropping all and adding one is no gain."""

VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:\}|:?\?))")
"""A variable that must have a value: $NAME, ${NAME}, ${NAME?…}."""
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


@dataclass(frozen=True)
class Problem:
    """One reason to refuse a file, where it is and how to mend it."""

    path: Path
    says: str
    fix: str

    def line(self, text: str) -> str:
        """Return the problem as one line, with the line of the file that it is about."""
        return f"compose.yaml line {line_of(text, self.path)}: {self.says}; {self.fix}"


@dataclass(frozen=True)
class Wishes:
    """What the file says about being released: its `x-release`."""

    web: str
    health: str = "/"
    version: str = ""
    migrate: tuple[str, ...] = ()
    drain_s: float = 30.0


def wishes(model: Model) -> Wishes:
    """Return a file's `x-release`, with what follows from the file itself; see `problems`."""
    said = dict(model.get("x-release") or {})
    drain = seconds(said.pop("drain", "30s"))
    migrate = said.pop("migrate", ())
    migrate = ("sh", "-c", migrate) if isinstance(migrate, str) else tuple(map(str, migrate))
    known = {key: str(said[key]) for key in ("health", "version") if said.get(key)}
    web = str(said.get("web") or _only_web(model))
    return Wishes(web, migrate=migrate, drain_s=30.0 if drain is None else drain, **known)


def is_own(service: Model) -> bool:
    """Tell whether a service runs the application's image."""
    return bool(IMAGE.fullmatch(str(service.get("image", ""))))


def problems(model: Model) -> list[Problem]:
    """Return every reason not to release a file; none when it can be released."""
    services = {name: said or {} for name, said in (model.get("services") or {}).items()}
    found, web = list(_of_x_release(model)), wishes(model).web
    if web not in services:
        fix = "name the one to release: x-release: {web: …}"
        found.append(Problem(("services",), f"there is no service {web!r}", fix))
    for name, service in services.items():
        path = ("services", name)
        found += _of_service(path, service)
        found += _of_web(path, service) if name == web else _of_ports(path, service)
    return found + list(_of_volumes(model))


def unknown(model: Model, names: Collection[str]) -> list[Problem]:
    """Return a problem for each `${NAME}` without a default that nobody gives a value."""
    found = []
    for service, said in (model.get("services") or {}).items():
        for name in sorted(_wanted(said) - set(names)):
            fix = f"declare it under secrets: in the environment's settings, or write ${{{name}:-}}"
            found.append(Problem(("services", service), f"nobody says what {name} is", fix))
    return found


def _wanted(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(_wanted, value))
    return {plain or braced for plain, braced in VARIABLE.findall(str(value).replace("$$", ""))}


def web_port(service: Model) -> str:
    """Return the port that the web service listens on in its container: "8000"."""
    ports = service.get("ports") or [""]
    found = PORT.fullmatch(str(ports[0])) if len(ports) == 1 else None
    return found[1] if found else ""


def seconds(text: object) -> float | None:
    """Return a duration as Compose writes it, such as 1m30s; None when it is none."""
    found = DURATION.fullmatch(str(text))
    if not found or not any(found.groups()):
        return None
    hours, minutes, rest = (float(group or 0) for group in found.groups())
    return hours * 3600 + minutes * 60 + rest


def line_of(text: str, path: Path) -> int:
    """Return the line on which a key of a YAML text stands, or the nearest key above it."""
    lines, at, indent = text.splitlines(), 0, -1
    for key in path:
        wanted = re.compile(rf"""^(\s*)["']?{re.escape(key)}["']?\s*:""")
        for number in range(at, len(lines)):
            found = wanted.match(lines[number])
            if found and len(found[1]) > indent:
                at, indent = number + 1, len(found[1])
                break
    return max(at, 1)


def _only_web(model: Model) -> str:
    services = (model.get("services") or {}).items()
    found = [name for name, said in services if said and "healthcheck" in said and "ports" in said]
    return found[0] if len(found) == 1 else "web"


def _of_x_release(model: Model) -> Iterator[Problem]:
    said = model.get("x-release") or {}
    for key in sorted(set(said) - {"web", "health", "version", "migrate", "drain"}):
        fix = "it knows web, health, version, migrate and drain"
        yield Problem(("x-release", key), f"x-release has no {key!r}", fix)
    if "drain" in said and seconds(said["drain"]) is None:
        yield Problem(("x-release", "drain"), f"{said['drain']!r} is no duration", "write 30s")
    for key in ("health", "version"):
        if said.get(key) and not re.fullmatch(r"/[!-~]*", str(said[key])):
            yield Problem(("x-release", key), f"{said[key]!r} is no path", "begin it with /")


def _of_service(path: Path, service: Model) -> Iterator[Problem]:
    if not service.get("image"):
        yield Problem(path, "it has no image", "write image: ${APP_IMAGE}, build: elsewhere")
    for key, value in service.items():
        if key in HARMLESS.split() or key.startswith("x-") or key in ("ports", "build"):
            continue
        allowed, fix = _RULES.get(key, (lambda value: not value, "leave it out"))
        if not allowed(value):
            says = f"{key} of {path[-1]!r} would reach beyond its container"
            yield Problem((*path, key), says, fix)


def _of_web(path: Path, service: Model) -> Iterator[Problem]:
    name = path[-1]
    health = service.get("healthcheck") or {}
    if not health.get("test") or health.get("disable"):
        says = f"{name!r} has no health check, so nobody could tell when it is up"
        yield Problem((*path, "healthcheck"), says, "give it a healthcheck with a test")
    if not is_own(service):
        says = f"the image of {name!r} is not the released one"
        yield Problem((*path, "image"), says, "write image: ${APP_IMAGE}")
    if not web_port(service):
        yield Problem((*path, "ports"), "two copies could not run side by side", PORT_FIX)
    copies = (service.get("deploy") or {}).get("replicas", service.get("scale", 1))
    if str(copies) != "1":
        says = f"{copies} copies of {name!r} cannot have one port"
        yield Problem((*path, "deploy"), says, "leave out replicas and scale")
    if service.get("container_name"):
        says = "two copies cannot have one container_name"
        yield Problem((*path, "container_name"), says, "leave it out")


def _of_ports(path: Path, service: Model) -> Iterator[Problem]:
    for port in service.get("ports") or ():
        address = port.get("host_ip", "") if isinstance(port, Mapping) else str(port)
        if not address.startswith(("127.", "[::1]", "::1")):
            says = f"a port of {path[-1]!r} would be open to everybody, past the firewall"
            yield Problem((*path, "ports"), says, "begin it with 127.0.0.1:, or leave it out")


def _of_volumes(model: Model) -> Iterator[Problem]:
    """A volume, secret or configuration of the file may be a folder of the host in disguise."""
    for kind, key in (("volumes", "driver_opts"), ("secrets", "file"), ("configs", "file")):
        for name, said in (model.get(kind) or {}).items():
            if (said or {}).get(key):
                says = f"{name!r} is made of files of the host"
                yield Problem((kind, name, key), says, "a release brings its image alone")
    for key in sorted(set(model) & {"include"}):
        yield Problem((key,), "it includes other files", "write them into this one")


def _no_bind(mounts: Any) -> bool:
    return all(_is_inside(mount) for mount in mounts or ())


def _is_inside(mount: Any) -> bool:
    if isinstance(mount, Mapping):
        return mount.get("type") in ("volume", "tmpfs")
    source, colon, _ = str(mount).partition(":")
    return not colon or bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*", source))


def _own_env_file(files: Any) -> bool:
    files = [files] if isinstance(files, (str, Mapping)) else files or []
    paths = [each.get("path", "") if isinstance(each, Mapping) else str(each) for each in files]
    return all(path.rpartition("/")[2] == ".env" for path in paths)


def _only_docker_s(names: Any) -> bool:
    return {str(name).upper().removeprefix("CAP_") for name in names or ()} <= set(
        DOCKER_GIVES.split()
    )


def _confined(options: Any) -> bool:
    return all(str(option).startswith("no-new-privileges") for option in options or ())


_RULES = {
    "volumes": (_no_bind, "use a named volume or tmpfs"),
    "env_file": (_own_env_file, "it may be .env alone"),
    "cap_add": (_only_docker_s, f"it may add {', '.join(DOCKER_GIVES.split())}"),
    "security_opt": (_confined, "it may say no-new-privileges:true"),
    "network_mode": (lambda mode: mode in ("bridge", "none", None), "leave it out"),
    "cgroup": (lambda mode: mode in ("private", None), "leave it out"),
    "ipc": (lambda mode: mode in ("private", "shareable", None), "leave it out"),
}
"""Keys that are allowed with some values only; any other key must say nothing."""
