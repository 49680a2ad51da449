"""Which rows of a gateway's outbox are committed: pure bookkeeping with inclusive ranges of seq, one list per epoch.

A list of spans is ascending and its spans never touch: [(1, 7), (9, 12)] says that 8 is missing. The ledger decides
only what is *acknowledged*. It never decides whether a row is stored: a restored disk uses numbers again, and the
key (meter, read_at) alone tells whether a reading is known. To forget a span is therefore always safe, since its
rows come once more; to invent one would lose rows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

Spans = list[tuple[int, int]]

MAX_MISSING: Final = 100
"""Holes that one acknowledgement names."""

MAX_SPANS: Final = 1000
"""Spans that are remembered of one epoch; a gateway that leaves more holes has its newest rows sent again."""


def _end(span: tuple[int, int]) -> int:
    return span[1]


def _start(span: tuple[int, int]) -> int:
    return span[0]


def add(spans: Spans, first: int, last: int) -> None:
    """Note first … last as committed; neighbours grow together. `last` < `first` notes nothing."""
    if last < first:
        return
    low = bisect_left(spans, first - 1, key=_end)
    high = bisect_right(spans, last + 1, key=_start)
    if low < high:
        first, last = min(first, spans[low][0]), max(last, spans[high - 1][1])
    spans[low:high] = [(first, last)]
    del spans[MAX_SPANS:]


def committed(spans: Spans, first: int, last: int) -> int:
    """Return how many of first … last are committed."""
    low = bisect_left(spans, first, key=_end)
    high = bisect_right(spans, last, key=_start)
    return sum(min(last, end) - max(first, start) + 1 for start, end in spans[low:high])


def contains(spans: Spans, seq: int) -> bool:
    """True when `seq` is committed."""
    at = bisect_left(spans, seq, key=_end)
    return at < len(spans) and spans[at][0] <= seq


def close(spans: Spans, first: int, last: int) -> int:
    """Note rows that will never come (the sender no longer holds them); return how many were still open."""
    if last < first:
        return 0
    lost = last - first + 1 - committed(spans, first, last)
    if lost:
        add(spans, first, last)
    return lost


def acknowledge(spans: Spans, oldest: int, limit: int = MAX_MISSING) -> tuple[int, Spans]:
    """Return (upto, missing): all up to `upto` is committed except `missing`, which never reaches below `oldest`.

    With more than `limit` holes `upto` stops below the first one that finds no place.
    """
    missing: Spans = []
    upto, wanted = 0, max(1, oldest)
    for start, end in spans:
        if start > wanted:
            if len(missing) == limit:
                break
            missing.append((wanted, start - 1))
        upto = end
        wanted = max(wanted, end + 1)
    return upto, missing
