"""One HTTP POST to an address that was checked: pinned to it, with TLS by name, bounded, never redirected."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httptools

from api.outbound.addresses import Target

_CHUNK: Final = 4096
_HEAD_BYTES: Final = 16_384


class PostError(Exception):
    """No usable answer came."""


@dataclass(slots=True)
class Answer:
    """What came back. body: at most as much as was wanted."""

    status: int = 0
    retry_after: str = ""
    body: bytes = b""


@dataclass(slots=True)
class _Reply:
    """Collects an answer for httptools."""

    limit: int
    answer: Answer = field(default_factory=Answer)
    headed: bool = False
    done: bool = False

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.answer.retry_after = value.decode("latin-1")[:40]

    def on_body(self, body: bytes) -> None:
        self.answer.body += body[: max(0, self.limit - len(self.answer.body))]
        self.done = self.done or len(self.answer.body) >= self.limit

    def on_message_complete(self) -> None:
        self.done = True


def tls_context(extra: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those of `extra`. Raises: OSError, ssl.SSLError."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if extra is not None:
        context.load_verify_locations(cafile=str(extra))
    return context


async def post(
    target: Target,
    addresses: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    context: ssl.SSLContext,
    most_bytes: int,
) -> Answer:
    """Send one request to the first of the checked addresses that takes the connection; the caller sets a deadline.

    Raises: PostError, with a reason in words.
    """
    reader, writer = await _connect(target, addresses, context)
    try:
        writer.write(_head(target, headers, body) + body)
        with contextlib.suppress(OSError):  # one that answers before it has read everything may still be heard
            await writer.drain()
        return await _read(reader, most_bytes)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise PostError(f"the line broke: {error}") from error
    finally:
        writer.transport.abort()


async def _connect(
    target: Target, addresses: Sequence[str], context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    why = "no address"
    for address in addresses:
        try:
            if target.tls:
                return await asyncio.open_connection(
                    address, target.port, ssl=context, server_hostname=target.host, limit=_HEAD_BYTES
                )
            return await asyncio.open_connection(address, target.port, limit=_HEAD_BYTES)
        except OSError as error:  # a refused certificate is one of these too
            why = str(error)
    raise PostError(f"no connection: {why}")


def _head(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {target.path} HTTP/1.1", f"Host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "User-Agent: metergate", "Accept: */*", "Connection: close"]
    if any("\r" in line or "\n" in line for line in lines):
        raise PostError("a header holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _read(reader: asyncio.StreamReader, most_bytes: int) -> Answer:
    reply = _Reply(most_bytes)
    parser = httptools.HttpResponseParser(reply)
    taken = 0
    while not reply.done:
        data = await reader.read(_CHUNK)
        if not data:
            break
        taken += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not reply.done:
                raise PostError("what came back is no HTTP") from error
        if not reply.headed and taken > _HEAD_BYTES:
            raise PostError("its headers have no end")
        if taken > _HEAD_BYTES + most_bytes:
            break
    if not reply.headed:
        raise PostError("it closed without an answer")
    reply.answer.status = parser.get_status_code()
    return reply.answer
