"""Answers that meters still owe: what was asked, timed out, and may yet come.

A late answer is the trap of every protocol without transaction numbers: taken for the answer to the next question it
shifts every later answer by one, without any error. So a question that was not answered is remembered as a debt of
its meter, by a `mark` that tells its answer from others. While a debt is open, a frame with that mark is late, not an
answer; who must ask for the same mark again first makes sure that the debt is settled.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from metering.clock import Clock

_FORGET_S: Final = 60.0
"""Nobody answers later than this."""
_MOST: Final = 64
"""Marks remembered per meter; the oldest go first."""


class Debts:
    """Open debts per address. late_s: [s] by which an answer that comes after its timeout usually has come."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, dict[Hashable, tuple[float, float]]] = {}

    def owe(self, address: str, mark: Hashable, late_s: float) -> None:
        """Remember that this question was not answered."""
        now = self._clock.monotonic()
        marks = self._open.setdefault(address, {})
        marks.pop(mark, None)
        marks[mark] = (now + late_s, now + max(_FORGET_S, 10 * late_s))
        while len(marks) > _MOST:
            del marks[next(iter(marks))]

    def owes(self, address: str, mark: Hashable) -> bool:
        """True when a frame with this mark may be the answer to an old question."""
        return mark in self._marks(address)

    def owes_any(self, address: str) -> bool:
        """True when anything is open."""
        return bool(self._marks(address))

    def marks(self, address: str) -> set[Hashable]:
        """Return the open marks."""
        return set(self._marks(address))

    def patience_s(self, address: str) -> float:
        """Return [s] that one should still wait before asking this meter the same again; 0 when none."""
        marks = self._marks(address)
        return max(0.0, max((late for late, _ in marks.values()), default=0.0) - self._clock.monotonic())

    def paid(self, address: str, mark: Hashable) -> bool:
        """A frame with this mark came: take the debt off. False when there was none."""
        marks = self._marks(address)
        if mark not in marks:
            return False
        del marks[mark]
        if not marks:
            self._open.pop(address, None)
        return True

    def settle(self, address: str) -> None:
        """Nothing of what was asked before can come any more."""
        self._open.pop(address, None)

    def _marks(self, address: str) -> dict[Hashable, tuple[float, float]]:
        marks = self._open.get(address)
        if marks is None:
            return {}
        now = self._clock.monotonic()
        for mark in [mark for mark, (_, forget) in marks.items() if forget <= now]:
            del marks[mark]
        if not marks:
            del self._open[address]
            return {}
        return marks
