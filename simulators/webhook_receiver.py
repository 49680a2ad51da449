"""A system outside that gets webhooks: checks each signature, and counts a delivery once however often it comes.

It is ill at first, as real ones are: the first requests are worked on and answered with 500 all the same. Whoever
sends again must use the same id, or the work would be done twice. Signatures after Standard Webhooks 1.0.0:
HMAC-SHA256 over "id.timestamp.body", base64, beside each other with "v1," before each.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from metering.clock import Clock

_PREFIX: Final = "whsec_"
_OLDEST_S: Final = 300
_MOST_BYTES: Final = 256 * 1024
_WORDS: Final = {200: "OK", 401: "Unauthorized", 413: "Content Too Large", 500: "Internal Server Error"}


@dataclass
class WebhookReceiver:
    """See the module. kinds: delivery id -> what it told, in the order of their first coming.

    refuse_first: so many good requests are answered with 500. requests: all; unsigned: refused for their signature.
    """

    clock: Clock
    secret: str = field(default="", repr=False)
    refuse_first: int = 2
    port: int = 0
    requests: int = 0
    refused: int = 0
    unsigned: int = 0
    kinds: dict[str, str] = field(default_factory=dict)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address to register."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def again(self) -> int:
        """Good requests that brought a delivery that was known already."""
        return self.requests - self.unsigned - len(self.kinds)

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_MOST_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Harmless twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """Work on one request and return the status. headers: names in small letters."""
        self.requests += 1
        if not self._is_signed(headers, body):
            self.unsigned += 1
            return 401
        self.kinds.setdefault(headers["webhook-id"], _kind(body))
        if self.refused < self.refuse_first:
            self.refused += 1
            return 500
        return 200

    def _is_signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        name, when = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not (name and when.isascii() and when.isdigit() and len(when) < 16):
            return False
        if abs(self.clock.now_ms() / 1000 - int(when)) > _OLDEST_S:
            return False
        try:
            key = base64.b64decode(self.secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            return False
        signed = f"{name}.{when}.".encode("latin-1") + body
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
        given = headers.get("webhook-signature", "").encode("latin-1").split()
        return bool(self.secret) and any(hmac.compare_digest(wanted.encode(), one) for one in given)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            length = int(headers.get("content-length", "0"))
            fits = 0 <= length <= _MOST_BYTES
            status = self.take(headers, await reader.readexactly(length)) if fits else 413
            writer.write(
                f"HTTP/1.1 {status} {_WORDS[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
            )
            await writer.drain()
        writer.close()


def _kind(body: bytes) -> str:
    """Return the kind of event that a body tells of, "" for a body that is none of ours."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(found.get("type", "")) if isinstance(found, dict) else ""
