"""Names for the host and the machines: Route53's zones, two services, and the world beyond.

A zone created through the API is answered here with authority, at 127.0.0.1 for Daybook's own
checks and at each gateway for the machines. Everything else goes to the host's own resolvers.
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
    """Answers over UDP and TCP."""

    def __init__(self, cloud: Cloud, ports: Ports) -> None:
        super().__init__("dns", ports.dns)
        self._cloud = cloud
        self._registry = dns.name.from_text(host_name(cloud))
        self._authority = [dns.name.from_text(host) for host in acme.HOSTS]
        self._sockets: dict[Network, asyncio.DatagramTransport] = {}

    def start(self) -> None:
        """Begin, on loopback first."""
        super().start()
        self.gateway_added(LOOPBACK)

    async def serve(
        self,
        network: Network,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Answer queries over TCP, each with its length before it, until the caller goes."""
        while True:
            wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            try:
                answer = await self.answer(network, wire, TCP_MAX)
            except dns.exception.DNSException:
                return
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()

    async def answer(self, network: Network, wire: bytes, limit: int) -> bytes:
        """Return the answer to a query in wire form; cut and marked so above the limit."""
        query = dns.message.from_wire(wire)
        try:
            response = await self._respond(network, query)
        except Exception as error:
            LOG.warning("dns: no answer to %s: %r", query.question, error)
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.SERVFAIL)
        return response.to_wire(max_size=max(limit, query.payload), prefer_truncation=True)

    async def _respond(self, network: Network, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        found = self._ours(network, question.name, question.rdtype)
        if found.rest == question.name:
            return await _forward(query)
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        response.set_rcode(found.rcode)
        response.answer.extend(found.answer)
        response.authority.extend(found.authority)
        if found.rest:
            beyond = await _forward(dns.message.make_query(found.rest, question.rdtype))
            response.answer.extend(beyond.answer)
            response.set_rcode(beyond.rcode())
        return response

    def _ours(
        self, network: Network, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> zones.Reply:
        if name == self._registry:
            address = network.gateway
        elif name in self._authority:
            address = acme.ADDRESS
        else:
            return zones.lookup(self._cloud.route53, name, kind, network.vpc_id)
        here = dns.rrset.from_text(name, SERVICE_TTL_S, "IN", "A", address)
        return zones.Reply(dns.rcode.NOERROR, (here,) if kind == dns.rdatatype.A else ())

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
    """One network's UDP side: a task for each query."""

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
            LOG.debug("dns: nothing to say to %s: %r", address, error)


async def _forward(query: dns.message.Message) -> dns.message.Message:
    """Ask the host's own resolvers, one after the other.

    They are read each time, because a laptop changes networks while a sandbox is up.
    """
    servers = [str(server) for server in dns.resolver.Resolver().nameservers]
    failure: Exception = OSError("this computer has no resolver")
    for server in servers:
        try:
            return (await dns.asyncquery.udp_with_fallback(query, server, UPSTREAM_S))[0]
        except (dns.exception.DNSException, OSError) as error:
            failure = error
    raise failure
