"""The last chunks in memory: the same rows as on disk, or none."""

from __future__ import annotations

from gateway.outbox_recent import RecentChunks


def test_whole_chunks_that_begin_where_asked_and_fit_are_given() -> None:
    recent = RecentChunks()
    recent.add(5, [(3, b"a\nb\nc"), (2, b"d\ne")])
    recent.add(10, [(1, b"f")])
    assert recent.read(5, 10, 100) == (6, [b"a\nb\nc", b"d\ne", b"f"])
    assert recent.read(5, 9, 100) == (5, [b"a\nb\nc", b"d\ne"]), "not past what is wanted"
    assert recent.read(5, 8, 100) == (3, [b"a\nb\nc"]), "only whole chunks"
    assert recent.read(5, 10, 8) == (3, [b"a\nb\nc"]), "only what fits"
    assert recent.read(6, 10, 100) == (0, []), "a chunk is not cut here"
    assert recent.read(4, 10, 100) == (0, [])
    assert recent.read(11, 20, 100) == (0, [])


def test_acknowledged_chunks_and_the_oldest_beyond_the_bound_leave() -> None:
    recent = RecentChunks()
    recent.add(1, [(2, b"a\nb"), (2, b"c\nd")])
    recent.drop_below(3)
    assert recent.read(1, 4, 100) == (0, [])
    assert recent.read(3, 4, 100) == (2, [b"c\nd"])
    recent.add(5, [(1, b"x" * 1_000_000), (1, b"y" * 1_000_000), (1, b"z" * 1_000_000)])
    assert recent.read(3, 9, 10**7) == (0, [])
    assert recent.read(6, 9, 10**7)[0] == 2


def test_a_gap_in_the_numbers_forgets_what_was_before() -> None:
    recent = RecentChunks()
    recent.add(1, [(2, b"a\nb")])
    recent.add(1, [(1, b"other")])
    assert recent.read(1, 9, 100) == (1, [b"other"])
