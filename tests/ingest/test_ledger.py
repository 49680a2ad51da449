"""Ranges of committed rows; every expected range is worked by hand, and a set of numbers is the judge of the rest."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ingest import ledger


def test_neighbours_grow_together_and_holes_stay() -> None:
    spans: ledger.Spans = []
    for first, last in ((1, 3), (7, 9), (4, 5), (20, 20), (8, 12)):
        ledger.add(spans, first, last)
    assert spans == [(1, 5), (7, 12), (20, 20)]
    ledger.add(spans, 6, 6)
    assert spans == [(1, 12), (20, 20)]
    ledger.add(spans, 5, 4)
    assert spans == [(1, 12), (20, 20)]


def test_acknowledgement_names_the_holes_and_reaches_to_the_highest_row() -> None:
    spans = [(1, 5), (7, 12), (20, 20)]
    assert ledger.acknowledge(spans, 1) == (20, [(6, 6), (13, 19)])


def test_missing_never_reaches_below_oldest() -> None:
    spans = [(5, 5), (7, 12), (20, 20)]
    assert ledger.acknowledge(spans, 6) == (20, [(6, 6), (13, 19)])
    assert ledger.acknowledge(spans, 7) == (20, [(13, 19)])
    assert ledger.acknowledge(spans, 15) == (20, [(15, 19)])
    assert ledger.acknowledge(spans, 21) == (20, [])
    assert ledger.acknowledge(spans, 1) == (20, [(1, 4), (6, 6), (13, 19)])


def test_nothing_committed_acknowledges_nothing() -> None:
    assert ledger.acknowledge([], 1) == (0, [])
    assert ledger.acknowledge([], 900) == (0, [])


def test_too_many_holes_pull_upto_back_instead_of_hiding_one() -> None:
    spans = [(seq, seq) for seq in range(2, 410, 2)]  # 204 rows, a hole before each
    upto, missing = ledger.acknowledge(spans, 1)
    assert missing == [(seq, seq) for seq in range(1, 200, 2)]  # the first 100 holes
    assert upto == 200  # 201 is a hole without a name
    assert ledger.acknowledge(spans, 1, limit=0) == (0, [])


def test_closing_counts_only_what_was_open() -> None:
    spans = [(5, 6), (9, 9)]
    assert ledger.close(spans, 1, 7) == 5
    assert spans == [(1, 7), (9, 9)]
    assert ledger.close(spans, 1, 7) == 0
    assert ledger.close(spans, 3, 2) == 0


def test_a_gateway_that_leaves_only_holes_cannot_fill_the_memory() -> None:
    spans: ledger.Spans = []
    for seq in range(1, 10_000, 2):
        ledger.add(spans, seq, seq)
    assert len(spans) == ledger.MAX_SPANS
    assert spans[-1] == (1999, 1999)  # what is forgotten is the newest: it is asked for again
    ledger.add(spans, 2, 2)
    assert spans[0] == (1, 3)


_RANGES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12)), max_size=25)


@given(_RANGES, st.integers(1, 80))
def test_ranges_say_the_same_as_a_set_of_numbers(ranges: list[tuple[int, int]], oldest: int) -> None:
    spans: ledger.Spans = []
    rows: set[int] = set()
    for first, size in ranges:
        ledger.add(spans, first, first + size - 1)
        rows |= set(range(first, first + size))
    assert {seq for a, b in spans for seq in range(a, b + 1)} == rows
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(spans))
    assert ledger.committed(spans, 10, 30) == len(rows & set(range(10, 31)))
    assert all(ledger.contains(spans, seq) == (seq in rows) for seq in range(1, 80))
    upto, missing = ledger.acknowledge(spans, oldest)
    open_rows = {seq for a, b in missing for seq in range(a, b + 1)}
    assert upto == max(rows, default=0)
    assert open_rows == {seq for seq in range(oldest, upto + 1) if seq not in rows}
