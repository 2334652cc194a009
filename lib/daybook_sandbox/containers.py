"""Containers that act as machines: they boot systemd or run their own Docker engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container

# linux/capability.h, in numerical order.
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP "
    "LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER "
    "SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE "
    "SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF "
    "CHECKPOINT_RESTORE"
)
# A rehearsal must not touch this computer's kernel modules, I/O ports or clock.
NEVER = ("SYS_MODULE", "SYS_RAWIO", "SYS_TIME")
STOP_TIMEOUT_S = 30


def create(
    engine: DockerClient,
    image: str,
    *,
    name: str,
    labels: Mapping[str, str],
    hostname: str | None = None,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    binds: Sequence[str] = (),
    memory_bytes: int = 0,
    network: str = "bridge",
    ip: str | None = None,
) -> Container:
    """Create a container with nearly all privileges and a separate /var/lib/docker.

    The low-level API, because docker-py has no other way to set `systempaths=unconfined`.
    """
    api = engine.api
    endpoint = api.create_endpoint_config(ipv4_address=ip)
    created = api.create_container(
        image,
        list(command) if command else None,
        name=name,
        hostname=hostname,
        labels=dict(labels),
        environment=dict(environment or {}),
        tty=True,
        volumes=["/var/lib/docker"],
        stop_timeout=STOP_TIMEOUT_S,
        networking_config=api.create_networking_config({network: endpoint}) if ip else None,
        host_config=host_config(engine, network, binds, memory_bytes),
    )
    return engine.containers.get(created["Id"])


def host_config(
    engine: DockerClient, network: str, binds: Sequence[str] = (), memory_bytes: int = 0
) -> dict:
    """Return a host configuration with all capabilities of the engine except NEVER."""
    config = engine.api.create_host_config(
        network_mode=network,
        binds=list(binds),
        cap_add=["ALL"],
        cap_drop=dropped(engine.api.api_version, Path("/proc/self/status").read_text()),
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs={"/run": "", "/run/lock": "", "/tmp": "exec"},
        mem_limit=memory_bytes or None,
        memswap_limit=memory_bytes or None,
    )
    return config | {"CgroupnsMode": "private", "MaskedPaths": [], "ReadonlyPaths": []}


def dropped(api_version: str, status: str) -> list[str]:
    """Return the capabilities to drop from ALL.

    Docker before 23 (API 1.42) fails on capabilities that this computer lacks unless they are
    dropped; later versions refuse to drop them. https://github.com/moby/moby/pull/42933
    """
    missing = set(missing_capabilities(status))
    tries_all = tuple(map(int, api_version.split("."))) < (1, 42)
    return sorted({*NEVER} | missing if tries_all else {*NEVER} - missing)


def missing_capabilities(status: str) -> list[str]:
    """Return the capabilities missing from a process's bounding set.

    status: the text of its /proc/PID/status.
    """
    bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    bits = int(bounding.split()[1], 16)
    return [name for number, name in enumerate(CAPABILITIES.split()) if not bits >> number & 1]
