"""A DNS server for this computer and the machines: Route53's zones, two services, the internet.

It is authoritative for zones created through the API, at 127.0.0.1 for Daybook's checks and at
each gateway for the machines. All other queries are forwarded to this computer's resolvers.
"""

from __future__ import annotations

import asyncio
import logging

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from daybook_sandbox import acme, zones
from daybook_sandbox.api import Cloud
from daybook_sandbox.ecr import host_name
from daybook_sandbox.loop import LOOPBACK, GatewayService, is_from
from daybook_sandbox.networks import Network
from daybook_sandbox.state import Ports

LOG = logging.getLogger(__name__)
PLAIN_UDP = 512
TCP_MAX = 65535
UPSTREAM_S = 3.0
SERVICE_TTL_S = 60


class Dns(GatewayService):
    """Answer queries over UDP and TCP."""

    def __init__(self, cloud: Cloud, ports: Ports) -> None:
        super().__init__("dns", ports.dns)
        self._cloud = cloud
        self._registry = dns.name.from_text(host_name(cloud))
        self._authority = [dns.name.from_text(host) for host in acme.HOSTS]
        self._sockets: dict[Network, asyncio.DatagramTransport] = {}

    def start(self) -> None:
        """Start serving on loopback; gateways are added later."""
        super().start()
        self.gateway_added(LOOPBACK)

    async def serve(
        self,
        network: Network,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Answer length-prefixed queries over TCP until the client disconnects."""
        while True:
            wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            try:
                answer = await self.answer(network, wire, TCP_MAX)
            except dns.exception.DNSException:
                return
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()

    async def answer(self, network: Network, wire: bytes, limit: int) -> bytes:
        """Return the wire-format answer to a query, truncated and flagged above the limit."""
        query = dns.message.from_wire(wire)
        try:
            response = await self._respond(network, query)
        except Exception as error:
            LOG.warning("dns: query %s failed: %r", query.question, error)
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.SERVFAIL)
        return response.to_wire(max_size=max(limit, query.payload), prefer_truncation=True)

    async def _respond(self, network: Network, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        reply = self._lookup(network, question.name, question.rdtype)
        if reply.rest == question.name:
            return await _forward(query)
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        response.set_rcode(reply.rcode)
        response.answer.extend(reply.answer)
        response.authority.extend(reply.authority)
        if reply.rest:
            beyond = await _forward(dns.message.make_query(reply.rest, question.rdtype))
            response.answer.extend(beyond.answer)
            response.set_rcode(beyond.rcode())
        return response

    def _lookup(
        self, network: Network, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> zones.Reply:
        if name == self._registry:
            address = network.gateway
        elif name in self._authority:
            address = acme.ADDRESS
        else:
            return zones.lookup(self._cloud.route53, name, kind, network.vpc_id)
        record = dns.rrset.from_text(name, SERVICE_TTL_S, "IN", "A", address)
        return zones.Reply(dns.rcode.NOERROR, (record,) if kind == dns.rdatatype.A else ())

    async def _listen(self, network: Network, port: int) -> None:
        await super()._listen(network, port)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(self, network), (network.gateway, port)
        )
        self._sockets[network] = transport

    async def _unlisten(self, network: Network) -> None:
        await super()._unlisten(network)
        if network in self._sockets:
            self._sockets.pop(network).close()


class _Datagrams(asyncio.DatagramProtocol):
    """A network's UDP endpoint: one task per query."""

    def __init__(self, service: Dns, network: Network) -> None:
        self._service = service
        self._network = network
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if is_from(self._network, address[0]):
            task = asyncio.create_task(self._answer(data, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            self._transport.sendto(
                await self._service.answer(self._network, data, PLAIN_UDP), address
            )
        except Exception as error:
            LOG.debug("dns: no answer sent to %s: %r", address, error)


async def _forward(query: dns.message.Message) -> dns.message.Message:
    """Query this computer's resolvers in order.

    They are read each time, because a laptop may change networks while the sandbox is up.
    """
    servers = [str(server) for server in dns.resolver.Resolver().nameservers]
    failure: Exception = OSError("this computer has no DNS resolver")
    for server in servers:
        try:
            return (await dns.asyncquery.udp_with_fallback(query, server, UPSTREAM_S))[0]
        except (dns.exception.DNSException, OSError) as error:
            failure = error
    raise failure
