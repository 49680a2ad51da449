"""The ledger of one epoch against counting by hand, seq by seq."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.queries.gateways import epoch_out
from ingest.ledger import add
from registry.ledger import Position


@given(st.sets(st.integers(1, 40)), st.integers(1, 45), st.integers(0, 5))
def test_waiting_and_missing_are_what_counting_finds(kept: set[int], oldest: int, behind: int) -> None:
    spans: list[tuple[int, int]] = []
    for seq in kept:
        add(spans, seq, seq)
    produced = max([*kept, oldest - 1]) + behind
    shown = epoch_out(Position("gw", "00", 0, spans, oldest=oldest, produced=produced))
    held = set(range(oldest, produced + 1))
    assert shown.committed == len(kept)
    assert shown.waiting == len(held - kept)
    holes = {seq for hole in shown.missing for seq in range(hole.first, hole.last + 1)}
    assert holes == {seq for seq in held - kept if seq < max(kept, default=0)}
    assert shown.acknowledged_upto == max(kept, default=0)
