"""HTTP/1.1 over asyncio streams for the sandbox's small servers, based on h11."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

import h11

from daybook_sandbox.loop import CHUNK

Headers = Sequence[tuple[str, str]]


class HttpStream:
    """One side of an HTTP connection: h11.SERVER answers requests, h11.CLIENT makes them."""

    def __init__(
        self, role: type[h11.Sentinel], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._connection = h11.Connection(role)
        self._reader = reader
        self._writer = writer
        self._answers_head = False

    async def next_request(self) -> h11.Request | None:
        """Return the next request; None if the client disconnected or violated the protocol."""
        connection = self._connection
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        if connection.our_state is not h11.IDLE:
            return None
        try:
            event = await self._next_event()
        except h11.RemoteProtocolError:
            return None
        if not isinstance(event, h11.Request):
            return None
        self._answers_head = event.method == b"HEAD"
        return event

    async def next_response(self) -> h11.Response:
        """Return the server's response."""
        while not isinstance(event := await self._next_event(), h11.Response):
            if isinstance(event, h11.ConnectionClosed):
                raise EOFError("the server has closed the connection")
        return event

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the peer's body in pieces."""
        while isinstance(event := await self._next_event(), h11.Data):
            yield bytes(event.data)

    async def send(self, *events: h11.Event) -> None:
        """Send parts of a message."""
        for event in events:
            self._writer.write(self._connection.send(event) or b"")
        await self._writer.drain()

    async def respond(self, status: HTTPStatus, body: bytes = b"", headers: Headers = ()) -> None:
        """Send a complete response; the rest of the request's body is discarded."""
        if self._connection.their_state is h11.SEND_BODY:
            async for _ in self.body():
                pass
        length = ("Content-Length", str(len(body)))
        response = h11.Response(
            status_code=status, reason=status.phrase, headers=[length, *headers]
        )
        content = () if self._answers_head else (h11.Data(data=body),)
        await self.send(response, *content, h11.EndOfMessage())

    async def _next_event(self) -> h11.Event:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            if self._connection.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._connection.receive_data(await self._reader.read(CHUNK))
        return event


def header(message: h11.Request | h11.Response, name: str) -> str:
    """Return a header's value; empty if it is missing."""
    wanted = name.lower().encode()
    return next((value.decode() for key, value in message.headers if key == wanted), "")
