"""Receivers on loopback: one for webhooks that keeps every request, one for mail that speaks SMTP with STARTTLS."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from standardwebhooks.webhooks import Webhook as SecondOpinion


@dataclass
class Hit:
    """One request that arrived. path: of the request line."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP server. answer: makes (status, headers, body) of a hit; None never answers."""

    answer: Callable[[Hit], tuple[int, str, bytes] | None] = lambda _: (200, "", b"ok")
    hits: list[Hit] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    port: int = 0
    hanging: int = 0
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def url(self) -> str:
        """The address to register."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook?key=k1"

    def verified(self, secret: str) -> list[Any]:
        """Return every body, each checked by another implementation of Standard Webhooks."""
        judge = SecondOpinion(secret)
        return [judge.verify(hit.body, hit.headers) for hit in self.hits]

    def signed_by(self, secret: str) -> list[bool]:
        """Whether each request carries the signature that the other implementation makes, however old it is."""
        judge = SecondOpinion(secret)
        return [
            judge.sign(hit.headers["webhook-id"], _moment(hit), hit.body.decode())
            in hit.headers["webhook-signature"].split()
            for hit in self.hits
        ]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            hit = Hit(head[0].split(" ")[1], headers, body)
            self.hits.append(hit)
            said = self.answer(hit)
            if said is None:
                self.hanging += 1
                await reader.read()  # until the caller gives up
                return
            status, more, content = said
            writer.write(f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


def _moment(hit: Hit) -> datetime:
    return datetime.fromtimestamp(int(hit.headers["webhook-timestamp"]), UTC)


class MailServer:
    """Speaks as much SMTP as a client needs. letters: (recipients, text) as they arrived; encrypted: of each."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.letters: list[tuple[list[str], str]] = []
        self.encrypted: list[bool] = []
        self.logins: list[str] = []
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            try:
                self._talk(line)
            except OSError:
                line.close()

    def _talk(self, line: socket.socket) -> None:
        secure, recipients = False, []
        line.sendall(b"220 test\r\n")
        stream = line.makefile("rb")
        while command := stream.readline().decode().strip():
            word = command[:4].upper()
            if word == "EHLO":
                offers = (
                    "250-test\r\n250-AUTH PLAIN\r\n" if secure or not self._tls else "250-test\r\n250-STARTTLS\r\n"
                )
                line.sendall(f"{offers}250 OK\r\n".encode())
            elif command.upper() == "STARTTLS" and self._tls:
                line.sendall(b"220 go\r\n")
                stream.close()
                line = self._tls.wrap_socket(line, server_side=True)
                stream, secure = line.makefile("rb"), True
            elif word == "AUTH":
                self.logins.append(command.split()[-1])
                line.sendall(b"235 OK\r\n")
            elif word == "RCPT":
                recipients.append(command)
                line.sendall(b"250 OK\r\n")
            elif word == "DATA":
                line.sendall(b"354 go\r\n")
                rows = []
                while (row := stream.readline()) not in (b".\r\n", b""):
                    rows.append(row.decode())
                self.letters.append((recipients, "".join(rows)))
                self.encrypted.append(secure)
                line.sendall(b"250 OK\r\n")
            elif word == "QUIT":
                line.sendall(b"221 bye\r\n")
                break
            else:
                line.sendall(b"250 OK\r\n")
        stream.close()
        line.close()
