"""Bytes between two ends within one process, counted at both: sent, and not yet read.

Only connections to a server of this loop are counted, and pseudo-terminals of its simulators; a peer in another
process has nobody to count at its end. The end of a connection counts as one byte more, because the other side has to
notice it; a pseudo-terminal has no such end.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from simulators.bus_ports import PtyPort

Address = tuple[Any, ...]
Way = tuple[Address, Address]
"""From one socket's address to another's."""
_END: Final = 1
_WORDS: Final = 3


class Wires:
    """What is under way. sent, segments: bytes and calls that were handed to sockets, also to foreign ones."""

    def __init__(self) -> None:
        self.sent = 0
        self.segments = 0
        self._servers: set[Address] = set()
        self._ends: set[Way] = set()
        self._coming: set[Way] = set()
        self._owed: dict[Way, int] = {}

    @property
    def busy(self) -> bool:
        """True while bytes are unread or a connection is not taken up by its server yet."""
        return bool(self._owed or self._coming)

    def words(self) -> str:
        """Say for a person what is under way."""
        waiting = [f"{_name(a)} -> {_name(b)}: {count} bytes" for (a, b), count in list(self._owed.items())[:_WORDS]]
        waiting += [f"{_name(b)} -> {_name(a)}: not accepted" for a, b in list(self._coming)[:_WORDS]]
        return ", ".join(waiting) or "nothing"

    def listen(self, address: Address) -> None:
        """Know a server of this process."""
        self._servers.add(address)

    def counted(self, sock: socket.socket) -> socket.socket:
        """Return the socket as one that counts; as it is when its other end is not ours, or gone already."""
        try:
            own, peer = sock.getsockname(), sock.getpeername()
        except OSError:
            return sock
        if own not in self._servers and peer not in self._servers:
            return sock
        self._ends.add((own, peer))
        if own in self._servers:
            self._coming.discard((own, peer))
        elif (peer, own) not in self._ends:
            self._coming.add((peer, own))
        return _CountedSocket(sock, self, (own, peer))

    def count_pty(self, port: PtyPort) -> None:
        """Count what passes through a simulator's pseudo-terminal; its other end is a `CountedPort`."""
        to_gateway, to_meters = pty_way(port.path)[::-1]
        port.on_sent = lambda count: self.put(to_gateway, count)
        port.on_read = lambda count: self.take(to_meters, count)
        port.on_closed = lambda: self.leave(to_gateway)
        port.on_open = lambda: self.join(to_gateway)
        self.join(to_gateway)

    def join(self, way: Way) -> None:
        """Know that somebody is at the near end of a way."""
        self._ends.add(way)

    def leave(self, way: Way) -> None:
        """Nobody is there any more: what comes for him is nobody's. Harmless twice."""
        self._ends.discard(way)
        self._owed.pop(way[::-1], None)

    def put(self, way: Way, count: int) -> None:
        """Bytes were handed to the kernel."""
        self.sent += count
        self.segments += 1
        if (back := way[::-1]) in self._ends or back in self._coming:
            self._add(way, count)

    def take(self, way: Way, count: int) -> None:
        """Bytes, or with 0 the end, were read by the far end of this way."""
        if way in self._owed:
            self._add(way, -(count or _END))

    def end(self, way: Way) -> None:
        """The near end of this way closed: what came for it is nobody's, what it sent is still to be read."""
        back = way[::-1]
        if way not in self._ends:
            return
        self._ends.discard(way)
        self._owed.pop(back, None)
        if back in self._ends or back in self._coming:
            self._add(way, _END)

    def _add(self, way: Way, count: int) -> None:
        left = self._owed.get(way, 0) + count
        if left > 0:
            self._owed[way] = left
        else:
            self._owed.pop(way, None)


class _CountedSocket(socket.socket):
    """A socket that tells `Wires` what passes; takes over the descriptor of the given one."""

    def __init__(self, sock: socket.socket, wires: Wires, way: Way) -> None:
        blocking = sock.getblocking()
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(blocking)
        self._wires, self._way = wires, way

    def send(self, *args: Any) -> int:
        """As every socket's."""
        count = super().send(*args)
        self._wires.put(self._way, count)
        return count

    def recv(self, *args: Any) -> bytes:
        """As every socket's."""
        data = super().recv(*args)
        self._wires.take(self._way[::-1], len(data))
        return data

    def recv_into(self, *args: Any, **options: Any) -> int:
        """As every socket's."""
        count = super().recv_into(*args, **options)
        self._wires.take(self._way[::-1], count)
        return count

    def close(self) -> None:
        """As every socket's."""
        if self.fileno() >= 0:
            self._wires.end(self._way)
        super().close()


def pty_way(path: str) -> tuple[Way, Way]:
    """Return the ways from a gateway to the meters of a pseudo-terminal, and back."""
    out = ((path, "gateway"), (path, "meters"))
    return out, out[::-1]


def _name(address: Address) -> str:
    return ":".join(map(str, address[:2]))
