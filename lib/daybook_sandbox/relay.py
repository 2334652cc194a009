"""A TCP relay from every gateway to a port on this computer's loopback."""

from __future__ import annotations

import asyncio

from daybook_sandbox.loop import GatewayService, pump
from daybook_sandbox.networks import Network


class GatewayRelay(GatewayService):
    """Relay connections to `port` on a gateway to a loopback port."""

    def __init__(self, name: str, port: int, target: int) -> None:
        super().__init__(name, port)
        self._target = target

    async def serve(
        self,
        network: Network,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(pump(reader, requests), pump(answers, writer))
        finally:
            requests.close()
