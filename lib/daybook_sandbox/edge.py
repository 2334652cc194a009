"""The edge between this computer and the Elastic IPs: a firewall and a redirect.

Elastic IPs are loopback addresses that no process binds: a rule redirects allowed connections to
the forwarder's port. Ports 22 and 80 therefore work even if this computer runs its own servers,
and a member of the docker group needs no root: a container on the host's network sets the rules.
Closed ports are refused with a reset (AWS drops the packets, so the caller would only wait).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from docker import DockerClient
from docker.errors import NotFound
from docker.models.containers import Container

from daybook.errors import DaybookError
from daybook_sandbox import image
from daybook_sandbox.api import ELASTIC_IPS
from daybook_sandbox.ingress import OPERATOR_CALLS_FROM, IngressRule
from daybook_sandbox.state import PREFIX

NAME = f"{PREFIX}-edge"
TABLE = "ip daybook_sandbox"
NO_RULES = f"add table {TABLE}\ndelete table {TABLE}\n"


class Edge:
    """The container that sets the rules while the sandbox is up."""

    def __init__(self, engine: DockerClient, labels: Mapping[str, str], forward_port: int) -> None:
        self._engine = engine
        self._labels = labels
        self._port = forward_port
        self._container: Container | None = None

    def start(self) -> None:
        """Start with all ports closed."""
        self._container = _run(self._engine, image.tools(), self._labels, ["sleep", "infinity"])
        self.apply(())

    def apply(self, rules: Iterable[IngressRule]) -> None:
        """Allow only these rules for new connections; established ones stay open."""
        code, output = self._container.exec_run(["nft", ruleset(rules, self._port)])
        if code:
            raise DaybookError(f"nft refused the edge's rules: {output.decode().strip()}")

    def close(self) -> None:
        """Remove the rules and the container."""
        if self._container:
            self._container.exec_run(["nft", NO_RULES])
            self._container.remove(force=True)
            self._container = None


def remove_rules(engine: DockerClient, tools: str) -> None:
    """Remove the edge container and the rules of a crashed sandbox.

    tools: any image with nft; the current one may not be built yet.
    """
    with contextlib.suppress(NotFound):
        engine.containers.get(NAME).remove(force=True)
    container = _run(engine, tools, {}, ["nft", NO_RULES])
    container.wait()
    container.remove(force=True)


def ruleset(rules: Iterable[IngressRule], forward_port: int) -> str:
    """Return the complete table, which replaces the previous one atomically."""
    gate = "\n".join(f"    {_nft_rule(rule)}" for rule in sorted(rules))
    return f"""{NO_RULES}table {TABLE} {{
  chain gate {{
    type filter hook output priority -150;
    ip daddr != {ELASTIC_IPS} accept
    ct state established,related accept
{gate}
    meta l4proto tcp reject with tcp reset
    drop
  }}
  chain carry {{
    type nat hook output priority -100;
    ip daddr {ELASTIC_IPS} meta l4proto tcp dnat to 127.0.0.1:{forward_port}
  }}
}}
"""


def _nft_rule(rule: IngressRule) -> str:
    source = "" if rule.is_public else f"ip saddr {OPERATOR_CALLS_FROM} "
    ports = f"{rule.first_port}-{rule.last_port}"
    return f"{source}ip daddr {rule.public_ip} tcp dport {ports} accept"


def _run(
    engine: DockerClient, tools: str, labels: Mapping[str, str], command: list[str]
) -> Container:
    return engine.containers.run(
        tools,
        command,
        name=NAME,
        labels=dict(labels),
        detach=True,
        network_mode="host",
        cap_drop=["ALL"],
        cap_add=["NET_ADMIN"],
        read_only=True,
    )
