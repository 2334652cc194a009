"""ECR's registry: Debian's docker-registry behind a proxy that enforces ECR's rules.

The registry has no network, only a socket in the sandbox's folder. The proxy serves TLS under the
registry's ECR name, requires a token of ECR's login API, refuses requests that ECR refuses, and
records each push in the API, so that the API and Docker report the same digests.
"""

from __future__ import annotations

import asyncio
import ssl

import h11
from docker import DockerClient

from daybook_sandbox import ca
from daybook_sandbox.api import Cloud
from daybook_sandbox.ecr import Ecr, RegistryRequest, host_name
from daybook_sandbox.httpstream import HttpStream
from daybook_sandbox.loop import CHUNK, LOOPBACK, GatewayService
from daybook_sandbox.networks import Network
from daybook_sandbox.state import Home, Ports
from daybook_sandbox.storage import Storage

# Hop-by-hop headers, and the proxy's own.
NOT_FORWARDED = (b"authorization", b"connection", b"expect", b"keep-alive", b"te", b"upgrade")


class Registry(GatewayService):
    """Serve docker login, push and pull on loopback and on every gateway."""

    def __init__(self, cloud: Cloud, ports: Ports, home: Home, engine: DockerClient) -> None:
        super().__init__("registry", ports.registry)
        self._loopback_port = ports.registry_local
        self._home = home
        self._cloud = cloud
        self._host = host_name(cloud)
        self._ecr = Ecr(cloud)
        self._storage = Storage(engine, home)

    def start(self) -> None:
        """Start the registry, then the proxy on loopback."""
        self._storage.start()
        ca.ensure_ca(self._home.folder)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(*ca.issue(self._home.folder, self._host))
        super().start()
        self._loop.call(self._listen(LOOPBACK, self._loopback_port))

    def close(self) -> None:
        """Stop the proxy, then the registry."""
        super().close()
        self._storage.close()

    async def serve(
        self,
        network: Network,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Refuse or forward each request until the client disconnects."""
        client = HttpStream(h11.SERVER, reader, writer)
        machine = self._cloud.instance_by_private_ip(peer)
        while request := await client.next_request():
            call = RegistryRequest.of(request)
            if refusal := self._ecr.refusal(call, machine):
                await client.respond(refusal.status, refusal.body, refusal.headers)
            else:
                await self._forward(client, request, call)

    async def _forward(
        self, client: HttpStream, request: h11.Request, call: RegistryRequest
    ) -> None:
        reader, writer = await asyncio.open_unix_connection(self._storage.socket, limit=CHUNK)
        registry = HttpStream(h11.CLIENT, reader, writer)
        headers = [(name, value) for name, value in request.headers if name not in NOT_FORWARDED]
        manifest = bytearray()
        try:
            await registry.send(
                h11.Request(method=request.method, target=request.target, headers=headers)
            )
            async for piece in client.body():
                if call.is_push:
                    manifest += piece
                await registry.send(h11.Data(data=piece))
            await registry.send(h11.EndOfMessage())
            response = await registry.next_response()
            self._ecr.record(call, response, bytes(manifest))
            await client.send(response)
            async for piece in registry.body():
                await client.send(h11.Data(data=piece))
            await client.send(h11.EndOfMessage())
        finally:
            writer.close()
