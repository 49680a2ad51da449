"""The last chunks that went to disk, kept in memory until they are sent: live rows need not be read back."""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.outbox_file import Chunk

_MOST_BYTES: Final = 2 * 1024 * 1024
_MOST_CHUNKS: Final = 200


class RecentChunks:
    """Chunks in the order of their numbers, without gaps between them; the oldest leave when it gets too much."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, int, bytes]] = deque()  # first, last, rows
        self._size = 0

    def add(self, first: int, chunks: list[Chunk]) -> None:
        """Note what was committed, `first` being the number of its first row."""
        if self._chunks and self._chunks[-1][1] + 1 != first:
            self.clear()
        for count, rows in chunks:
            self._chunks.append((first, first + count - 1, rows))
            self._size += len(rows)
            first += count
        while self._size > _MOST_BYTES or len(self._chunks) > _MOST_CHUNKS:
            self._size -= len(self._chunks.popleft()[2])

    def read(self, low: int, high: int, max_bytes: int) -> tuple[int, list[bytes]]:
        """Return whole chunks that begin at `low` and fit: how many rows, and the chunks; (0, []) when none does."""
        found: list[bytes] = []
        size, after = 0, low
        for first, last, rows in self._chunks:
            if first < after:
                continue
            if first != after or last > high or size + len(rows) + 1 > max_bytes:
                break
            found.append(rows)
            size += len(rows) + 1
            after = last + 1
        return after - low, found

    def drop_below(self, oldest: int) -> None:
        """Forget chunks whose rows are all acknowledged."""
        while self._chunks and self._chunks[0][1] < oldest:
            self._size -= len(self._chunks.popleft()[2])

    def clear(self) -> None:
        """Forget all."""
        self._chunks.clear()
        self._size = 0
