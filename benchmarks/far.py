"""A connection to somewhere far away, for ssh's ProxyCommand: all bytes arrive later.

ssh -o ProxyCommand="python3 benchmarks/far.py %h %p 20" HOST    # a round trip of 40 ms
"""

from __future__ import annotations

import asyncio
import sys


async def main(host: str, port: int, delay_s: float) -> None:
    """Carry standard input and output to a port until either side has ended."""
    loop = asyncio.get_running_loop()
    from_there, to_there = await asyncio.open_connection(host, port)
    from_here = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(from_here), sys.stdin.buffer)
    pipe, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, sys.stdout.buffer
    )
    to_here = asyncio.StreamWriter(pipe, protocol, None, loop)
    ways = [carry(from_here, to_there, delay_s), carry(from_there, to_here, delay_s)]
    await asyncio.wait(map(asyncio.create_task, ways), return_when=asyncio.FIRST_COMPLETED)


async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what comes, each piece that much later, its order kept."""
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
