"""Elastic IPs that work: connections to them are carried to the machine behind.

The edge lets a connection in and redirects it here; what it was for is asked of the kernel. The
security groups are read again for each connection and, while it lasts, several times a second.
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
LOOK_AGAIN_S = 0.3
AFTER_FAILURE_S = 5.0
CONNECT_S = 10.0


@dataclass(frozen=True)
class Connection:
    """Who has called which Elastic IP and port, and both ends of it."""

    caller: str
    public_ip: str
    port: int
    private_ip: str
    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]

    def cut(self) -> None:
        """End it at once, as a firewall would."""
        for end in self.ends:
            end.transport.abort()


class Forward:
    """Carries connections, and keeps the edge's rules and its own table true.

    destination: how to learn what a redirected connection was for.
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
        self._open: frozenset[IngressRule] = frozenset()

    def start(self) -> None:
        """Close the edge, listen behind it, and begin to follow the API."""
        self._edge.start()
        self._loop.start()
        self._loop.call(self._begin())

    def close(self) -> None:
        """Cut every connection and take the edge away."""
        self._loop.close()
        self._edge.close()

    def gateway_added(self, network: Network) -> None:
        """Nothing to do: callers come from this computer."""

    def gateway_removed(self, network: Network) -> None:
        """Nothing to do."""

    def status(self) -> str:
        """Say in a few words what is open and connected."""
        addresses = len({opening.public_ip for opening in self._open})
        return f"{addresses} Elastic IPs open, {len(self._connections)} connections"

    async def _begin(self) -> None:
        await asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=CHUNK)
        self._follower = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                await self._look()
                await asyncio.sleep(LOOK_AGAIN_S)
            except Exception as error:
                LOG.error("forward: the edge could not be brought up to date: %r", error)
                await asyncio.sleep(AFTER_FAILURE_S)

    async def _look(self) -> None:
        """Cut what is no longer allowed, then tell the edge."""
        now = ingress_rules(self._cloud)
        for connection in [one for one in self._connections if not _is_allowed(one, now)]:
            LOG.info("forward: cut %s:%s", connection.public_ip, connection.port)
            connection.cut()
        if now != self._open:
            await asyncio.to_thread(self._edge.apply, now)
            self._open = now

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = writer.get_extra_info("peername")[0]
        try:
            public_ip, port = self._destination(writer.get_extra_info("socket"))
            opening = self._find(caller, public_ip, port)
            if opening:
                await self._carry(caller, public_ip, port, opening.private_ip, reader, writer)
        except (OSError, TimeoutError) as error:
            LOG.debug("forward: connection of %s ended: %r", caller, error)
        finally:
            writer.transport.abort()

    def _find(self, caller: str, public_ip: str, port: int) -> IngressRule | None:
        if not is_from(LOOPBACK, caller):
            return None
        ways = (one for one in ingress_rules(self._cloud) if one.lets_in(caller, public_ip, port))
        return next(ways, None)

    async def _carry(
        self,
        caller: str,
        public_ip: str,
        port: int,
        private_ip: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        there_reader, there = await asyncio.wait_for(
            asyncio.open_connection(private_ip, port, limit=CHUNK), CONNECT_S
        )
        connection = Connection(caller, public_ip, port, private_ip, (writer, there))
        self._connections.add(connection)
        try:
            await asyncio.gather(pump(reader, there), pump(there_reader, writer))
            writer.close()
            await writer.wait_closed()
        finally:
            self._connections.discard(connection)
            there.transport.abort()


def original_destination(connection: socket.socket) -> tuple[str, int]:
    """Return the address and port that a redirected connection was made to."""
    raw = connection.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    return socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4])


def _is_allowed(connection: Connection, now: frozenset[IngressRule]) -> bool:
    return any(
        one.lets_in(connection.caller, connection.public_ip, connection.port)
        and one.private_ip == connection.private_ip
        for one in now
    )
