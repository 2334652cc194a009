"""Forward connections to Elastic IPs to the machines behind them.

The edge admits a connection and redirects it here; the kernel knows its original destination.
Security groups are read for each new connection and several times a second while it lasts.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from docker import DockerClient

from daybook_sandbox.api import Cloud
from daybook_sandbox.edge import Edge
from daybook_sandbox.ingress import IngressRule, ingress_rules
from daybook_sandbox.loop import CHUNK, LOOPBACK, Loop, is_from, pump
from daybook_sandbox.networks import Network
from daybook_sandbox.state import Ports

LOG = logging.getLogger(__name__)
SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h
POLL_S = 0.3
AFTER_FAILURE_S = 5.0
CONNECT_S = 10.0


@dataclass(frozen=True)
class Connection:
    """A connection from a caller to an Elastic IP and port, with its two streams."""

    caller: str
    public_ip: str
    port: int
    private_ip: str
    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]

    def cut(self) -> None:
        """Abort both ends immediately, as a firewall would."""
        for end in self.ends:
            end.transport.abort()


class Forward:
    """Forward connections; keep the edge's rules up to date and cut connections they forbid.

    destination: returns the original destination of a redirected connection.
    """

    def __init__(
        self,
        cloud: Cloud,
        ports: Ports,
        engine: DockerClient,
        labels: Mapping[str, str],
        destination: Callable[[socket.socket], tuple[str, int]] | None = None,
    ) -> None:
        self._cloud = cloud
        self._port = ports.forward
        self._edge = Edge(engine, labels, ports.forward)
        self._destination = destination or original_destination
        self._loop = Loop("forward")
        self._connections: set[Connection] = set()
        self._rules: frozenset[IngressRule] = frozenset()

    def start(self) -> None:
        """Close the edge, listen behind it and start following the API."""
        self._edge.start()
        self._loop.start()
        self._loop.call(self._begin())

    def close(self) -> None:
        """Cut all connections and remove the edge."""
        self._loop.close()
        self._edge.close()

    def gateway_added(self, network: Network) -> None:
        """Do nothing: callers are on this computer."""

    def gateway_removed(self, network: Network) -> None:
        """Do nothing."""

    def status(self) -> str:
        """Describe the open addresses and connections in a few words."""
        addresses = len({rule.public_ip for rule in self._rules})
        return f"{addresses} Elastic IPs open, {len(self._connections)} connections"

    async def _begin(self) -> None:
        await asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=CHUNK)
        self._follower = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                await self._update()
                await asyncio.sleep(POLL_S)
            except Exception as error:
                LOG.error("forward: could not update the edge: %r", error)
                await asyncio.sleep(AFTER_FAILURE_S)

    async def _update(self) -> None:
        """Cut connections that are no longer allowed, then update the edge."""
        rules = ingress_rules(self._cloud)
        for connection in [open_ for open_ in self._connections if not _is_allowed(open_, rules)]:
            LOG.info("forward: cut %s:%s", connection.public_ip, connection.port)
            connection.cut()
        if rules != self._rules:
            await asyncio.to_thread(self._edge.apply, rules)
            self._rules = rules

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = writer.get_extra_info("peername")[0]
        try:
            public_ip, port = self._destination(writer.get_extra_info("socket"))
            rule = self._matching_rule(caller, public_ip, port)
            if rule:
                await self._relay(caller, public_ip, port, rule.private_ip, reader, writer)
        except (OSError, TimeoutError) as error:
            LOG.debug("forward: connection of %s ended: %r", caller, error)
        finally:
            writer.transport.abort()

    def _matching_rule(self, caller: str, public_ip: str, port: int) -> IngressRule | None:
        if not is_from(LOOPBACK, caller):
            return None
        rules = ingress_rules(self._cloud)
        return next((rule for rule in rules if rule.allows(caller, public_ip, port)), None)

    async def _relay(
        self,
        caller: str,
        public_ip: str,
        port: int,
        private_ip: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        machine_reader, machine_writer = await asyncio.wait_for(
            asyncio.open_connection(private_ip, port, limit=CHUNK), CONNECT_S
        )
        connection = Connection(caller, public_ip, port, private_ip, (writer, machine_writer))
        self._connections.add(connection)
        try:
            await asyncio.gather(pump(reader, machine_writer), pump(machine_reader, writer))
            writer.close()
            await writer.wait_closed()
        finally:
            self._connections.discard(connection)
            machine_writer.transport.abort()


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Return the original address and port of a redirected connection."""
    raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    return socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4])


def _is_allowed(connection: Connection, rules: frozenset[IngressRule]) -> bool:
    return any(
        rule.allows(connection.caller, connection.public_ip, connection.port)
        and rule.private_ip == connection.private_ip
        for rule in rules
    )
