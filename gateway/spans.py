"""A set of whole numbers kept as inclusive ranges: which seqs are held, sent, acknowledged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""Inclusive: (3, 5) is 3, 4, 5."""


class SpanSet:
    """Ranges that never touch or overlap, in order. Cost follows the number of ranges, not of numbers."""

    __slots__ = ("_high", "_low")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._low: list[int] = []
        self._high: list[int] = []
        for low, high in spans:
            self.add(low, high)

    def __iter__(self) -> Iterator[Span]:
        return zip(self._low, self._high, strict=True)

    def __bool__(self) -> bool:
        return bool(self._low)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._low, number) - 1
        return at >= 0 and self._high[at] >= number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpanSet) and self._low == other._low and self._high == other._high

    def __repr__(self) -> str:
        return f"SpanSet({list(self)})"

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def count(self) -> int:
        """How many numbers are in it."""
        return sum(self._high) - sum(self._low) + len(self._low)

    @property
    def first(self) -> int | None:
        """The lowest number."""
        return self._low[0] if self._low else None

    @property
    def last(self) -> int | None:
        """The highest number."""
        return self._high[-1] if self._high else None

    def add(self, low: int, high: int) -> None:
        """Put low … high in; nothing when high < low."""
        if high < low:
            return
        begin = bisect_left(self._high, low - 1)
        end = bisect_right(self._low, high + 1)
        if begin < end:
            low, high = min(low, self._low[begin]), max(high, self._high[end - 1])
        self._low[begin:end] = [low]
        self._high[begin:end] = [high]

    def remove(self, low: int, high: int) -> None:
        """Take low … high out; nothing when high < low."""
        if high < low:
            return
        begin = bisect_left(self._high, low)
        end = bisect_right(self._low, high)
        if begin >= end:
            return
        rest = [(self._low[begin], low - 1), (high + 1, self._high[end - 1])]
        kept = [(a, b) for a, b in rest if a <= b]
        self._low[begin:end] = [a for a, _ in kept]
        self._high[begin:end] = [b for _, b in kept]

    def within(self, low: int, high: int) -> list[Span]:
        """Return the parts that lie in low … high."""
        begin = bisect_left(self._high, low)
        end = bisect_right(self._low, high)
        return [(max(low, self._low[i]), min(high, self._high[i])) for i in range(begin, end)]

    def gaps(self, low: int, high: int) -> list[Span]:
        """Return the ranges of low … high that are not in it."""
        found = []
        for a, b in self.within(low, high):
            if a > low:
                found.append((low, a - 1))
            low = b + 1
        if low <= high:
            found.append((low, high))
        return found

    def run_from(self, number: int) -> Span | None:
        """Return the rest of the first range that reaches `number` or begins after it."""
        at = bisect_left(self._high, number)
        return (max(number, self._low[at]), self._high[at]) if at < len(self._low) else None
