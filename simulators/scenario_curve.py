"""The index of one simulated meter over time: what went through it, and what its register says of that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from metering.quantities import MICRO

QUARTER_MS: Final = 900_000
_HALF: Final = 0xFFFF
_LAST_DIGIT: Final = MICRO // 100


@dataclass(frozen=True, slots=True)
class Misread:
    """From `begin` until before `end` [ms UTC] the register says something else.

    scale: times by / of; a unit is wrong. words: the two halves of the number stand the wrong way round. zero: 0.
    """

    kind: Literal["scale", "words", "zero"]
    begin: int
    end: int
    by: int = 1
    of: int = 1

    def shown(self, index: int) -> int:
        """Return what the register says for an index [10⁻⁶ house units]."""
        if self.kind == "scale":
            return index * self.by // self.of
        if self.kind == "zero":
            return 0
        raw = index // _LAST_DIGIT
        return ((raw & _HALF) << 16 | raw >> 16) * _LAST_DIGIT


@dataclass(frozen=True, slots=True)
class Exchange:
    """Another meter hangs there from `at` [ms UTC] on. final: index of the old one; start: of the new one."""

    at: int
    final: int
    start: int


class TraceCurve:
    """The exact index of one meter: quarter hours that were drawn before the run, straight lines between them.

    steps: [10⁻⁶ house units] at each quarter hour from start_ms on, of what went through, whatever meter hung there.
    """

    def __init__(
        self,
        steps: list[int],
        start_ms: int,
        misreads: tuple[Misread, ...] = (),
        exchanges: tuple[tuple[int, int], ...] = (),
    ) -> None:
        """exchanges: (at [ms UTC], start index of the new meter), in order."""
        self._steps, self._start, self._misreads = steps, start_ms, misreads
        self.exchanges: tuple[Exchange, ...] = ()
        for at, start in exchanges:
            self.exchanges += (Exchange(at, self._own(at), start),)

    def passed(self, t_ms: int) -> int:
        """Return the index as if one right meter had always hung there [10⁻⁶ house units]: the truth."""
        quarter, inside = divmod(t_ms - self._start, QUARTER_MS)
        if quarter < 0:
            return self._steps[0]
        if quarter >= len(self._steps) - 1:
            return self._steps[-1]
        begin = self._steps[quarter]
        return begin + inside * (self._steps[quarter + 1] - begin) // QUARTER_MS

    def index(self, t_ms: int) -> int:
        """Return what the register says [10⁻⁶ house units]."""
        index = self._own(t_ms)
        for each in self._misreads:
            if each.begin <= t_ms < each.end:
                return each.shown(index)
        return index

    def flow(self, t_ms: int) -> int:
        """Return the rate of the quarter hour [10⁻⁶ house units per hour]; a reversed flow shows as none."""
        quarter = (t_ms - self._start) // QUARTER_MS
        if not 0 <= quarter < len(self._steps) - 1:
            return 0
        return max(0, 4 * (self._steps[quarter + 1] - self._steps[quarter]))

    def _own(self, t_ms: int) -> int:
        """Return what the meter that hangs there has counted, rightly read."""
        for each in reversed(self.exchanges):
            if t_ms >= each.at:
                return each.start + self.passed(t_ms) - self.passed(each.at)
        return self.passed(t_ms)
