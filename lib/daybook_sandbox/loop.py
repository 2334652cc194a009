"""The base of the sandbox's services: an event loop in a thread, and per-network listeners."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from daybook_sandbox.networks import Network

LOG = logging.getLogger(__name__)
LOOPBACK = Network(name="loopback", vpc_id="", cidr="127.0.0.0/8", gateway="127.0.0.1")
CHUNK = 1 << 18

T = TypeVar("T")


class Loop:
    """An event loop in a separate thread, callable from any thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = 10) -> T:
        """Run a coroutine in the loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def close(self) -> None:
        """Cancel all tasks and end the thread; safe to call twice."""
        if not self._thread.is_alive():
            return
        self.call(_cancel_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class GatewayService:
    """A TCP service on each network's gateway address, open only to that network.

    Gateway addresses belong to this computer and are reachable from other networks too, so the
    source of each connection is checked. Subclasses implement `serve`.
    """

    def __init__(self, name: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._loop = Loop(name)
        self._port = port
        self._tls = tls
        self._servers: dict[Network, asyncio.Server] = {}
        self._open: dict[Network, set[asyncio.StreamWriter]] = {}

    def start(self) -> None:
        """Start the loop; listeners are added with the gateways."""
        self._loop.start()

    def close(self) -> None:
        """Stop listening and cut all connections."""
        for network in list(self._servers):
            self.gateway_removed(network)
        self._loop.close()

    def gateway_added(self, network: Network) -> None:
        """Listen on a network's gateway."""
        self._loop.call(self._listen(network, self._port))

    def gateway_removed(self, network: Network) -> None:
        """Stop listening on a network's gateway and cut its connections."""
        self._loop.call(self._unlisten(network))

    def status(self) -> str:
        """Describe the listening addresses in a few words."""
        return f"port {self._port} on {', '.join(n.gateway for n in self._servers) or 'no gateway'}"

    async def serve(
        self,
        network: Network,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Serve a connection from `peer`; the caller closes it."""
        raise NotImplementedError

    async def _listen(self, network: Network, port: int) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._accept(network, reader, writer)

        self._open[network] = set()
        self._servers[network] = await asyncio.start_server(
            accept, network.gateway, port, ssl=self._tls, limit=CHUNK
        )

    async def _unlisten(self, network: Network) -> None:
        server = self._servers.pop(network, None)
        if server:
            server.close()
        for writer in self._open.pop(network, set()):
            writer.transport.abort()

    async def _accept(
        self, network: Network, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = writer.get_extra_info("peername")[0]
        connections = self._open[network]
        connections.add(writer)
        try:
            if not is_from(network, peer):
                writer.transport.abort()
                return
            await self.serve(network, peer, reader, writer)
            await writer.drain()
        except (OSError, EOFError) as error:
            LOG.debug("%s: connection of %s ended: %r", type(self).__name__, peer, error)
        except Exception:
            LOG.exception("%s: connection of %s failed", type(self).__name__, peer)
        finally:
            connections.discard(writer)
            writer.close()


def is_from(network: Network, peer: str) -> bool:
    """Return True if an address belongs to a network."""
    return ipaddress.ip_address(peer) in ipaddress.ip_network(network.cidr)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes in one direction until EOF, then send EOF."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
