"""The Ansible inventory from Terraform's outputs, and known_hosts from the console output."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from daybook import bounded_yaml
from daybook.errors import SettingsError

BEGIN, END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"
LOGIN = "admin"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
KEY = re.compile(r"((?:ssh|ecdsa)-[a-z0-9-]+ [A-Za-z0-9+/]+=*)(?: |$)")


def render(outputs: Mapping, known_hosts: Path) -> str:
    """Return the inventory: one group of hosts, named after the environment.

    outputs: those of terraform/environment. known_hosts: the only file with trusted host keys.
    """
    variables = {
        "ansible_user": LOGIN,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": shlex.join(ssh_options(known_hosts)),
        "app_name": outputs["app"],
        "app_domains": list(outputs["names"]),
        "app_image_repository": outputs["ecr_repository_url"],
        "app_port": outputs["app_port"],
        "metrics_namespace": outputs["metrics_namespace"],
    }
    hosts = {
        host["name"]: {"ansible_host": host["public_ip"], "private_ip": host["private_ip"]}
        for host in outputs["instances"]
    }
    tree = {outputs["environment"]: {"hosts": hosts, "vars": variables}}
    head = "# From Terraform's outputs; rewritten by each run before Ansible or ssh reads it.\n"
    return head + yaml.safe_dump(tree, sort_keys=False, width=1000)


@dataclass(frozen=True)
class Inventory:
    """The Ansible inventory of an environment, and the known_hosts file beside it."""

    path: Path

    @property
    def known_hosts(self) -> Path:
        """Return the only file with host keys that ssh accepts."""
        return self.path.with_name(f"{self.path.name}.known_hosts")

    def write(self, outputs: Mapping, keys: str) -> None:
        """Write both files. outputs: from Terraform. keys: in known_hosts format."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self.known_hosts, keys)
        _replace(self.path, render(outputs, self.known_hosts))

    def hosts(self) -> dict[str, str]:
        """Return the hosts' addresses: `{"hello-staging-1": "203.0.113.9"}`."""
        return read(self.path)

    def remove(self) -> None:
        """Remove both files if they exist."""
        self.path.unlink(missing_ok=True)
        self.known_hosts.unlink(missing_ok=True)


def read(path: Path) -> dict[str, str]:
    """Return an inventory's hosts: `{"hello-staging-1": "203.0.113.9"}`."""
    try:
        groups = bounded_yaml.parse(bounded_yaml.read_text(path)).tree.values()
        hosts = {n: host["ansible_host"] for group in groups for n, host in group["hosts"].items()}
        if not all(map(_NAME.fullmatch, hosts)):
            raise ValueError
        return {name: str(IPv4Address(str(address))) for name, address in hosts.items()}
    except (bounded_yaml.Problem, AttributeError, KeyError, TypeError, ValueError):
        raise SettingsError(
            f"The inventory {path.name} is invalid.",
            expected=f"{path} as written by each run",
            next="run this step again; it rewrites the file",
        ) from None


def _replace(path: Path, text: str) -> None:
    """Write a file atomically, because another run in this checkout may read it."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def host_keys(console: str) -> list[str]:
    """Return the host keys that cloud-init printed last: `["ssh-ed25519 AAAA…"]`.

    An incomplete block is ignored, and so is a line mixed with kernel messages.
    """
    blocks, current = [], None
    for line in (ANSI.sub("", raw).strip() for raw in console.splitlines()):
        if line.endswith(BEGIN):
            current = []
        elif line.endswith(END) and current:
            blocks.append(current)
            current = None
        elif current is not None and (key := _key(line)):
            current.append(key)
    return blocks[-1] if blocks else []


def known_hosts(hosts: Sequence[Mapping], keys: Mapping[str, Sequence[str]]) -> str:
    """Return known_hosts for the hosts. keys: the keys of each instance id."""
    return "".join(
        f"{_heading(host)}\n" + "".join(f"{host['public_ip']} {key}\n" for key in keys[host["id"]])
        for host in hosts
    )


def kept_keys(known_hosts: str, host: Mapping) -> list[str]:
    """Return the keys in known_hosts for this instance id, even if its address changed.

    Not by address: a new instance takes over the Elastic IP of the one that it replaces.
    """
    return list(_section(known_hosts.splitlines(), host["id"]))


def _section(lines: Sequence[str], instance_id: str) -> Iterator[str]:
    is_section = False
    for line in lines:
        if line.startswith("#"):
            is_section = line.split()[1:2] == [instance_id]
        elif is_section and (key := _key(line.partition(" ")[2])):
            yield key


def _heading(host: Mapping) -> str:
    return f"# {host['id']} {host['name']}"


def ssh_options(known_hosts: Path) -> list[str]:
    """Return the ssh options to trust only the keys in known_hosts."""
    # ssh accepts a list of files here and expands %-tokens in it.
    file = str(known_hosts).replace("%", "%%")
    options = ["StrictHostKeyChecking=yes", f'UserKnownHostsFile="{file}"', "IdentitiesOnly=yes"]
    return [word for option in options for word in ("-o", option)]


def _key(line: str) -> str | None:
    """Return the key of a line as type and base64, or None without a valid key."""
    if not (match := KEY.match(line)):
        return None
    key = match[1]
    try:
        load_ssh_public_key(key.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key
