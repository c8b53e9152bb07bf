"""A registry that is far away: a forwarder that holds back everything for half a round trip each way.

Run as a script: ``delay.py LISTEN_PORT REGISTRY_PORT ROUND_TRIP_MS``.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

HOST = "127.0.0.1"
BLOCK = 256 * 1024
WINDOW_BLOCKS = 64
"""What may be on its way: 16 MiB, so that the delay limits round trips and not throughput."""


async def flow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass everything on ``delay_s`` after it came."""
    clock = asyncio.get_running_loop().time
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WINDOW_BLOCKS)

    async def deliver() -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(due - clock())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    delivering = asyncio.create_task(deliver())
    data = b" "
    while data:
        try:
            data = await reader.read(BLOCK)
        except OSError:
            data = b""
        await on_the_way.put((clock() + delay_s, data))
    with suppress(OSError):
        await delivering


async def main(port: int, registry: int, round_trip_s: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(round_trip_s)  # the handshake, which loopback did at once
        inner_reader, inner_writer = await asyncio.open_connection(HOST, registry)
        there = flow(reader, inner_writer, round_trip_s / 2)
        back = flow(inner_reader, writer, round_trip_s / 2)
        await asyncio.gather(there, back)

    server = await asyncio.start_server(connected, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    listen, to, milliseconds = sys.argv[1:]
    asyncio.run(main(int(listen), int(to), float(milliseconds) / 1000))
