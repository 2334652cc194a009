"""Add latency to an ssh connection, as its ProxyCommand.

ssh -o ProxyCommand="python3 benchmarks/far.py %h %p 20" HOST    # a round trip of 40 ms
"""

from __future__ import annotations

import asyncio
import sys


async def main(host: str, port: int, delay_s: float) -> None:
    """Relay standard input and output to a port until either side ends."""
    loop = asyncio.get_running_loop()
    from_remote, to_remote = await asyncio.open_connection(host, port)
    from_local = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(from_local), sys.stdin.buffer)
    pipe, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, sys.stdout.buffer
    )
    to_local = asyncio.StreamWriter(pipe, protocol, None, loop)
    relays = [relay(from_local, to_remote, delay_s), relay(from_remote, to_local, delay_s)]
    await asyncio.wait(map(asyncio.create_task, relays), return_when=asyncio.FIRST_COMPLETED)


async def relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: float) -> None:
    """Forward data in order, each piece delayed."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        data = b"more"
        while data:
            due, data = await queue.get()
            await asyncio.sleep(due - loop.time())
            sink.write(data)
            await sink.drain()

    delivery = asyncio.create_task(deliver())
    data = b"more"
    while data:
        data = await source.read(1 << 16)
        queue.put_nowait((loop.time() + delay_s, data))
    await delivery


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
