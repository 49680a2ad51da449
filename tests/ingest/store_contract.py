"""What every `ReadingStore` must do. A store's test class inherits `StoreContract` and says how it is opened.

Values keep to 15 significant digits, the most that every store can hold exactly.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from metering.reading import Reading
from metering.store import ReadingStore

AT = 1_772_323_200_000  # 2026-03-01T00:00:00Z
END = AT + 86_400_000

UGLY_IDS = [
    "with space",
    "with,comma",
    "with=equals",
    'with"quote',
    "with'quote",
    "with\\backslash",
    "with\\",
    "with\nnewline",
    "with\ttab",
    "水表-001",
    "#hash",
    "+plus",
    "/slash/",
    "..",
    "%25",
    '"; DROP MEASUREMENT reading; --',
    '") |> drop()',
    "🚰",
    "x" * 64,
]


class StoreContract:
    """Inherit, implement `open`, and all of this must hold."""

    def open(self, folder: Path) -> ReadingStore:
        """Return the store of this folder for writing; called again after `close`, it finds what was stored."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ReadingStore]:
        store = self.open(tmp_path)
        yield store
        store.close()

    def test_a_reading_comes_back_as_it_was_written(self, store: ReadingStore) -> None:
        full = Reading(
            "WM-1",
            AT,
            {"volume": 123_456_789, "flow": 0, "temperature": -5_250_000},
            meter_time=AT - 7,
            received_at=AT + 150,
            quality="suspect",
            reason="time_ahead",
            source="push",
            flags=2**31 - 1,
        )
        bare = Reading("WM-2", AT, {"volume": 1})
        assert store.write([full, bare]) == [None, None]
        assert store.get([("WM-1", AT), ("WM-2", AT)]) == {("WM-1", AT): full, ("WM-2", AT): bare}

    def test_writing_again_changes_nothing(self, store: ReadingStore) -> None:
        reading = Reading("WM-1", AT, {"volume": 5}, received_at=AT + 1)
        for _ in range(3):
            assert store.write([reading, reading]) == [None, None]
        assert list(store.range(None, AT, END)) == [reading]
        assert store.counts(AT, END) == {"WM-1": 1}

    def test_quantities_of_one_key_are_merged(self, store: ReadingStore) -> None:
        store.write([Reading("WM-1", AT, {"volume": 5, "flow": 1}, received_at=AT)])
        store.write([Reading("WM-1", AT, {"pressure": 7}, received_at=AT)])
        assert store.get([("WM-1", AT)])["WM-1", AT].values == {"volume": 5, "flow": 1, "pressure": 7}
        store.write([Reading("WM-1", AT, {"flow": 2}, received_at=AT)])
        assert store.get([("WM-1", AT)])["WM-1", AT].values == {"volume": 5, "flow": 2, "pressure": 7}

    def test_within_a_batch_the_last_value_of_a_quantity_stays(self, store: ReadingStore) -> None:
        store.write(
            [
                Reading("WM-1", AT, {"volume": 1}),
                Reading("WM-1", AT, {"volume": 2, "flow": 9}),
                Reading("WM-1", AT, {"volume": 3}),
            ]
        )
        assert store.get([("WM-1", AT)])["WM-1", AT].values == {"volume": 3, "flow": 9}

    def test_ranges_are_half_open_and_ordered_by_meter_and_time(self, store: ReadingStore) -> None:
        written = [Reading(meter, AT + step, {"volume": step}) for step in (30, 10, 20) for meter in ("b", "a", "B")]
        store.write(written)
        found = [(r.meter, r.read_at - AT) for r in store.range(None, AT + 10, AT + 30)]
        assert found == [("B", 10), ("B", 20), ("a", 10), ("a", 20), ("b", 10), ("b", 20)]
        assert [(r.meter, r.read_at - AT) for r in store.range(["b", "zz", "a", "b"], AT + 20, AT + 21)] == [
            ("a", 20),
            ("b", 20),
        ]
        assert list(store.range([], AT, END)) == []
        assert list(store.range(None, AT + 30, AT + 30)) == []

    def test_a_cursor_walks_every_reading_once(self, store: ReadingStore) -> None:
        store.write([Reading(f"M{m}", AT + t, {"volume": t}) for m in range(7) for t in range(11)])
        for meters in (None, [f"M{m}" for m in range(7)]):
            seen: list[tuple[str, int]] = []
            after: tuple[str, int] | None = None
            while page := list(store.range(meters, AT, END, limit=10, after=after)):
                assert len(page) <= 10
                seen += [(r.meter, r.read_at) for r in page]
                after = seen[-1]
            assert seen == [(f"M{m}", AT + t) for m in range(7) for t in range(11)]
        assert list(store.range(None, AT, END, limit=0)) == []

    def test_a_range_can_be_left_early_and_narrowed_to_quantities(self, store: ReadingStore) -> None:
        store.write([Reading("a", AT + t, {"volume": t} if t % 2 else {"volume": t, "flow": -t}) for t in range(6)])
        assert [r.read_at - AT for r in islice(store.range(None, AT, END), 2)] == [0, 1]
        found = list(store.range(["a"], AT, END, quantities=["flow"]))
        assert [(r.read_at - AT, r.values) for r in found] == [(0, {"flow": 0}), (2, {"flow": -2}), (4, {"flow": -4})]
        assert len(list(store.range(None, AT, END, quantities=["flow", "volume"]))) == 6
        assert list(store.range(None, AT, END, quantities=["battery"])) == []

    def test_last_reading_at_or_before_a_moment(self, store: ReadingStore) -> None:
        store.write([Reading("a", AT + t, {"volume": t}) for t in (10, 20, 30)])
        store.write([Reading("a", AT + 25, {"flow": 1}), Reading("b", AT + 15, {"volume": 4})])
        late = store.at_or_before(["a", "b", "nobody"], AT + 29)
        assert {meter: r.read_at - AT for meter, r in late.items()} == {"a": 25, "b": 15}
        carrying = store.at_or_before(["a", "b"], AT + 29, quantity="volume")
        assert {meter: r.read_at - AT for meter, r in carrying.items()} == {"a": 20, "b": 15}
        assert carrying["a"].values == {"volume": 20}
        assert store.at_or_before(["a"], AT + 20)["a"].read_at == AT + 20
        assert store.at_or_before(["a", "b"], AT + 9) == {}
        assert store.at_or_before(["a"], AT + 99, quantity="battery") == {}

    def test_counts_say_how_many_readings_each_meter_has(self, store: ReadingStore) -> None:
        store.write([Reading("a", AT + t, {"volume": t}) for t in range(5)] + [Reading("b", AT, {"volume": 1})])
        assert store.counts(AT, END) == {"a": 5, "b": 1}
        assert store.counts(AT + 1, AT + 4) == {"a": 3}
        assert store.counts(AT - 10, AT) == {}

    @pytest.mark.parametrize("meter", UGLY_IDS)
    def test_any_text_is_only_a_name(self, store: ReadingStore, meter: str) -> None:
        reading = Reading(meter, AT, {"volume": 42}, received_at=AT)
        plain = Reading("plain", AT, {"volume": 7}, received_at=AT)
        store.write([reading, plain])
        assert store.get([(meter, AT)]) == {(meter, AT): reading}
        assert list(store.range([meter], AT, END)) == [reading]
        assert store.at_or_before([meter], END) == {meter: reading}
        assert store.counts(AT, END) == {meter: 1, "plain": 1}
        assert list(store.range(["plain"], AT, END)) == [plain]

    def test_fifteen_digits_are_exact(self, store: ReadingStore) -> None:
        chance = random.Random(8)
        micros = [999_999_999_999_999, -999_999_999_999_999, 100_000_000_000_001, 1, -1, 0]
        micros += [chance.randrange(-(10**15) + 1, 10**15) for _ in range(3000)]
        store.write([Reading("a", AT + i, {"volume": micro}) for i, micro in enumerate(micros)])
        assert [r.values["volume"] for r in store.range(["a"], AT, END)] == micros

    def test_an_empty_batch_is_written_at_once(self, store: ReadingStore) -> None:
        assert store.write([]) == []
        assert store.get([]) == {}

    def test_a_large_batch_is_written_whole(self, store: ReadingStore) -> None:
        batch = [Reading(f"M{i % 997:03d}", AT + i, {"volume": i, "flow": -i}) for i in range(20_000)]
        assert store.write(batch) == [None] * len(batch)
        assert sum(store.counts(AT, END).values()) == 20_000
        assert sum(r.values["volume"] for r in store.range(None, AT, END)) == 20_000 * 19_999 // 2

    def test_bad_rows_are_refused_one_by_one(self, store: ReadingStore) -> None:
        answers = store.write([Reading("a", AT, {"volume": 1}), Reading("", AT, {"volume": 1}), Reading("b", AT, {})])
        assert answers[0] is None
        assert answers[1]
        assert answers[2]
        assert store.counts(AT, END) == {"a": 1}

    def test_everything_is_there_after_a_restart(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        batch = [Reading(f"M{i}", AT + i, {"volume": i}) for i in range(100)]
        store.write(batch)
        store.close()
        store.close()
        again = self.open(tmp_path)
        assert sorted(again.range(None, AT, END), key=lambda r: r.read_at) == batch
        again.write([Reading("M0", AT + 500, {"volume": 500})])
        assert [r.read_at - AT for r in again.range(["M0"], AT, END)] == [0, 500]
        again.close()
