"""The API as a real process with real sockets, for what cannot be seen from inside."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from metering.clock import SystemClock
from registry.database import Database
from registry.roles import Role
from tests.api.world import make_key, make_world


@dataclass
class Served:
    """A running API."""

    process: subprocess.Popen[bytes]
    address: str
    key: str
    folder: Path

    @property
    def port(self) -> int:
        return int(urlsplit(self.address).port or 0)

    def connect(self, timeout_s: float = 20.0) -> socket.socket:
        """Open one connection; reads on it end with an error instead of hanging."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def rss(self) -> int:
        """Resident memory [bytes]."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def connections(self) -> int:
        """Connections that the process holds open."""
        found = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(1 for connection in found if connection.status != psutil.CONN_LISTEN)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send raw bytes, return (status, everything that came back until the other side closed)."""
        with self.connect() as caller:
            with suppress(OSError):  # a refusal may arrive before everything is sent
                caller.sendall(request)
            answer = read_all(caller)
        return status_of(answer), answer

    def get(self, path: str) -> tuple[int, bytes]:
        """GET on a connection of its own, with the administrator's key."""
        shown = f"authorization: Bearer {self.key}\r\n"
        return self.ask(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{shown}connection: close\r\n\r\n".encode())

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, bytes, bytes]:
        """Signal it and wait; return (exit code, stdout, stderr)."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        return code, (self.folder / "api.out").read_bytes(), (self.folder / "api.err").read_bytes()


def read_all(caller: socket.socket) -> bytes:
    """Read until the other side closes."""
    answer = b""
    with suppress(ConnectionResetError):
        while piece := caller.recv(65536):
            answer += piece
    return answer


def status_of(answer: bytes) -> int:
    """Return the status of a raw answer, 0 when there is none."""
    parts = answer.split(b" ", 2)
    return int(parts[1]) if len(parts) == 3 else 0


def until(holds: Callable[[], bool], deadline_s: float = 90.0) -> bool:
    """Poll; return whether it came true in time."""
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def real_key(database: Database) -> str:
    """Return an administrator's key that is good today, for services with a real clock; closes the database."""
    now = SystemClock().now_ms()
    key = make_key(database, *Role, at=now, expires_at=now + 86_400_000)
    database.close()
    return key


def forget_jobs(folder: Path) -> None:
    """The job of the small utility waits for ever; here somebody would do it, before all others."""
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    with database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM job")
    database.close()


@contextmanager
def served(
    folder: Path, *, jobs: bool = False, program: str = "tests.api.serve", **settings: Any
) -> Iterator[Served]:
    """Start the API over a filled house, with background jobs or without; it is ended on the way out."""
    make_world(folder).close()
    if jobs:
        forget_jobs(folder)
    key = real_key(Database(f"sqlite:///{folder / 'registry.db'}"))
    chosen = json.dumps({"port": 0, **settings})
    command = [sys.executable, "-m", program, str(folder), chosen, *(["jobs"] if jobs else [])]
    with (
        (folder / "api.out").open("wb") as out,
        (folder / "api.err").open("wb") as error,
    ):  # no full pipe stops it
        process = subprocess.Popen(command, stdout=out, stderr=error)
    try:
        found = folder / "address"
        assert until(lambda: found.exists() or process.poll() is not None, deadline_s=90.0)
        assert process.poll() is None, (folder / "api.err").read_text()
        yield Served(process, found.read_text(), key, folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
