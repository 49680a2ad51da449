"""Readings as columns are the readings row by row, and each goes to the place where its meter hung."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomaly.feed import Feed, columns_of, read_columns
from anomaly.meters import Meter, MeterTable
from anomaly.stored import Places
from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from registry.watch import Change

DAY = 86_400_000
T0 = 20_000 * DAY


def store_of(folder: Path, rows: list[Reading]) -> SqliteStore:
    store = SqliteStore(folder / "readings.db", mode="write")
    assert set(store.write(rows)) == {None}
    return store


def places(stays: dict[str, list[tuple[int, int, int]]], *meters: str) -> Places:
    quantity = dict.fromkeys(stays, "volume")
    return Places(MeterTable([Meter(name) for name in meters]), stays, quantity, [], list(meters))  # type: ignore[arg-type]  # a quantity's word


def test_columns_of_the_embedded_store_are_its_rows(tmp_path: Path) -> None:
    rows = [
        Reading("A", T0, {"volume": -5}, received_at=T0 + 1, flags=3),
        Reading("A", T0 + 1, {"flow": 5}),
        Reading("B", T0 + 2, {"volume": 2**62}, source="import"),
        Reading("B", T0 + 3, {"volume": 7}, quality="estimated", source="estimate"),
        Reading("C", T0 + 4, {"volume": 8}),
    ]
    store = store_of(tmp_path, rows)
    fast = read_columns(store, ["B", "A", "Z"], "volume", T0, T0 + 10)
    told = [(1, T0, T0 + 1, -5, 3, 0, 0), (0, T0 + 2, 0, 2**62, 0, 1, 0), (0, T0 + 3, 0, 7, 0, 0, 1)]
    slow = columns_of(told)
    for name in ("meter", "read_at", "received_at", "micro", "flags", "imported", "estimated"):
        order, other = np.argsort(fast.read_at), np.argsort(slow.read_at)
        assert getattr(fast, name)[order].tolist() == getattr(slow, name)[other].tolist(), name
    assert not read_columns(store, ["A"], "energy_import", T0, T0 + 10).read_at.size
    store.close()


def test_a_meter_that_moved_counts_where_it_hung(tmp_path: Path) -> None:
    store = store_of(
        tmp_path, [Reading("A", T0 + hour, {"volume": hour}, received_at=T0 + hour) for hour in range(5)]
    )
    moved = places({"A": [(T0 + 1, T0 + 2, 0), (T0 + 2, T0 + 3, 1)]}, "X", "Y")
    feed = Feed.of(store, moved)
    rows = feed.touched([Change(1, T0, T0, T0 + 9, ("A", "stranger"))])
    assert rows is not None
    assert sorted(zip(rows.meter.tolist(), rows.micro.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 3)]
    assert feed.newest_at.tolist() == [T0 + 2, T0 + 3]
    store.close()


def test_an_import_counts_as_arrived_when_it_was_read_and_estimates_do_not_count(tmp_path: Path) -> None:
    rows = [
        Reading("A", T0, {"volume": 1}, received_at=T0 + 9 * DAY, source="import"),
        Reading("A", T0 + DAY, {"volume": 2}, received_at=T0 + 50 * DAY),
        Reading("A", T0 + 2 * DAY, {"volume": 3}, quality="estimated", source="estimate"),
    ]
    store = store_of(tmp_path, rows)
    feed = Feed.of(store, places({"A": [(0, 2**62, 0)]}, "A"))
    ((_, found),) = feed.days(T0 // 1000, T0 // 1000 + 86_400)
    assert found.received.tolist() == [T0 // 1000]
    assert not sum(len(part) for _, part in feed.days(T0 // 1000 + 86_400, T0 // 1000 + 3 * 86_400))
    store.close()
