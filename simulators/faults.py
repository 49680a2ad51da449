"""What a sick meter does to a good answer.

Wire faults change the bytes or the moment of an answer; content faults are in the registers (see
`simulators.register_image`). Which answers are hit is drawn from a seeded generator.
"""

from __future__ import annotations

import random
from typing import Final

from simulators.farm_settings import FaultKind, FaultSettings

CONTENT: Final[frozenset[FaultKind]] = frozenset({"bad_content", "not_available", "zero_index", "freeze"})
"""Faults whose answer has the right shape and says something wrong."""


class Fault:
    """One fault that is switched on at a meter."""

    def __init__(self, settings: FaultSettings, rng: random.Random) -> None:
        self.settings = settings
        self._rng = rng
        self._left = settings.times

    @property
    def over(self) -> bool:
        """True when the fault has hit as often as it should."""
        return self._left == 0

    def hits(self) -> bool:
        """Decide whether the next answer is hit, and count it."""
        if self.over or self._rng.random() >= self.settings.share:
            return False
        if self._left is not None:
            self._left -= 1
        return True

    def spoil(self, answer: bytes) -> bytes:
        """Return what goes over the wire instead of a good answer; b"" is silence."""
        kind = self.settings.kind
        if kind in ("silent", "close"):
            return b""
        if kind == "exception":
            return exception(answer[:7], answer[7], self.settings.code)
        if kind == "cut":
            return answer[: self.settings.keep]
        if kind == "wrong_transaction":
            return bytes([answer[0] ^ 0x55]) + answer[1:]
        if kind == "wrong_unit":
            return answer[:6] + bytes([answer[6] ^ 0x55]) + answer[7:]
        if kind == "wrong_byte_count":
            return answer[:8] + bytes([(answer[8] + 2) & 0xFF]) + answer[9:]
        if kind == "garbage":
            return self._rng.randbytes(max(8, len(answer)))
        return answer


def exception(mbap: bytes, function: int, code: int) -> bytes:
    """Return an exception answer to the request with this 7-byte header."""
    return mbap[:2] + b"\x00\x00\x00\x03" + mbap[6:7] + bytes([function | 0x80, code])
