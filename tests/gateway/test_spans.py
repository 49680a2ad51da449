"""Ranges behave as the plain set of numbers that they stand for."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.spans import SpanSet

_RANGES = st.tuples(st.booleans(), st.integers(0, 40), st.integers(-2, 10))


def _numbers(spans: SpanSet) -> set[int]:
    return {n for low, high in spans for n in range(low, high + 1)}


@given(st.lists(_RANGES, max_size=30), st.integers(0, 45), st.integers(0, 45))
def test_ranges_are_the_set_of_their_numbers(steps: list[tuple[bool, int, int]], low: int, high: int) -> None:
    spans, plain = SpanSet(), set[int]()
    for adds, start, length in steps:
        numbers = set(range(start, start + length))
        if adds:
            spans.add(start, start + length - 1)
            plain |= numbers
        else:
            spans.remove(start, start + length - 1)
            plain -= numbers
    assert _numbers(spans) == plain
    listed = list(spans)
    assert all(b[0] > a[1] + 1 for a, b in itertools.pairwise(listed)), "touching ranges are joined"
    assert spans.count == len(plain)
    assert (spans.first, spans.last) == ((min(plain), max(plain)) if plain else (None, None))
    window = set(range(low, high + 1))
    assert _numbers(SpanSet(spans.within(low, high))) == plain & window
    assert _numbers(SpanSet(spans.gaps(low, high))) == window - plain
    assert all((n in spans) == (n in plain) for n in range(46))
    run = spans.run_from(low)
    later = sorted(n for n in plain if n >= low)
    assert (run[0] if run else None) == (later[0] if later else None)
