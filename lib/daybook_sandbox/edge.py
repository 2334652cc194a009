"""The edge between this computer and the Elastic IPs: a firewall and one redirection.

Elastic IPs are loopback addresses that nothing binds: a rule hands what is let in to the
forwarder's port. So ports 22 and 80 work beside a server of this computer's own, and a member of
the docker group needs no root: the rules are set from a container that shares the host's network.
What is not open is refused with a reset (AWS drops it silently: the caller would only wait).
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
    """The container that sets the rules, for as long as the sandbox is up."""

    def __init__(self, engine: DockerClient, labels: Mapping[str, str], forward_port: int) -> None:
        self._engine = engine
        self._labels = labels
        self._port = forward_port
        self._container: Container | None = None

    def start(self) -> None:
        """Start with everything closed."""
        self._container = _run(self._engine, image.tools(), self._labels, ["sleep", "infinity"])
        self.apply(())

    def apply(self, openings: Iterable[IngressRule]) -> None:
        """Let in just these, from now on; what is connected stays connected."""
        code, output = self._container.exec_run(["nft", ruleset(openings, self._port)])
        if code:
            raise DaybookError(f"nft refused the edge's rules: {output.decode().strip()}")

    def close(self) -> None:
        """Take the rules and the container away."""
        if self._container:
            self._container.exec_run(["nft", NO_RULES])
            self._container.remove(force=True)
            self._container = None


def remove_rules(engine: DockerClient, tools: str) -> None:
    """Take away what a sandbox that crashed has left: its edge container and its rules.

    tools: an image that has nft; the one at hand, because the current one may not be built yet.
    """
    with contextlib.suppress(NotFound):
        engine.containers.get(NAME).remove(force=True)
    container = _run(engine, tools, {}, ["nft", NO_RULES])
    container.wait()
    container.remove(force=True)


def ruleset(openings: Iterable[IngressRule], forward_port: int) -> str:
    """Return the whole table, to be put in place of the one before in one step."""
    gate = "\n".join(f"    {_rule(opening)}" for opening in sorted(openings))
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


def _rule(opening: IngressRule) -> str:
    caller = "" if opening.anyone else f"ip saddr {OPERATOR_CALLS_FROM} "
    ports = f"{opening.first_port}-{opening.last_port}"
    return f"{caller}ip daddr {opening.public_ip} tcp dport {ports} accept"


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
