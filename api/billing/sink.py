"""A file that is written and handed on piece by piece: it knows how far it is, and keeps nothing that was taken."""

from __future__ import annotations

import io
from typing import Any


class Sink(io.RawIOBase):
    """Takes bytes; nobody can seek in it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written, those that were taken too."""
        return self._place

    def write(self, data: Any) -> int:
        """Add bytes."""
        piece = bytes(data)
        self._parts.append(piece)
        self._place += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        found, self._parts = b"".join(self._parts), []
        return found
