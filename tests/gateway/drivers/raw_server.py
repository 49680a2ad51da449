"""A Modbus TCP server that answers with whatever bytes a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Answer = Callable[[bytes], Iterable[bytes] | None]
"""From a whole request frame to the pieces to send; None hangs up."""


@dataclass
class RawServer:
    """What the server saw. `answer` may be changed at any time."""

    answer: Answer
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                request = await reader.readexactly(12)
                self.requests.append(request)
                pieces = self.answer(request)
                if pieces is None:
                    return
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(answer: Answer, port: int = 0) -> AsyncIterator[RawServer]:
    """Listen on loopback."""
    raw = RawServer(answer)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", port)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        for writer in raw.writers:
            writer.close()
        await server.wait_closed()
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Wait for a condition in real time. Raises: AssertionError."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.001)


def good(request: bytes, registers: bytes) -> bytes:
    """The right answer to a read request."""
    body = bytes((request[6], request[7], len(registers))) + registers
    return request[:2] + b"\x00\x00" + len(body).to_bytes(2, "big") + body
