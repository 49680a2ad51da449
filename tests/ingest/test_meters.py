"""Latest readings and closings are gathered between flushes; only what changed is handed out."""

from __future__ import annotations

from ingest.meters import Changes, MeterTable
from metering.messages import part_of
from metering.reading import Reading
from registry.ledger import MeterFacts
from tests.ingest.house import NOW, reading

HOUR = 3_600_000
DAY = 86_400_000


def table(tz: str = "Asia/Shanghai") -> MeterTable:
    meters = MeterTable()
    meters.add("M1", MeterFacts("gw-1", "volume", tz), None)
    meters.add("M2", MeterFacts("gw-2", "energy_import", tz), None)
    return meters


def test_many_readings_of_a_meter_become_one_row_of_each_table() -> None:
    meters = table()
    meters.note([reading("M1", NOW + i, i) for i in range(100)])
    changes = meters.take()
    assert [(row.read_at, row.values) for row in changes.latest] == [(NOW + 99, {"volume": 99})]
    assert [(row.day, row.index, row.quantity) for row in changes.closings] == [("2026-03-01", 99, "volume")]
    assert changes.touched == {part_of("gw-1"): (["M1"], NOW, NOW + 99)}
    assert meters.take() == Changes()


def test_an_old_reading_after_a_flush_closes_its_day_and_is_not_latest() -> None:
    meters = table()
    meters.note([reading("M1", NOW, 9)])
    meters.take()
    meters.note([reading("M1", NOW - DAY, 5), reading("M1", NOW - DAY - HOUR, 4)])
    changes = meters.take()
    assert changes.latest == changes.replaced == []
    assert [(row.day, row.index) for row in changes.closings] == [("2026-02-28", 5)]
    assert changes.touched == {part_of("gw-1"): (["M1"], NOW - DAY - HOUR, NOW - DAY)}


def test_days_that_alternate_keep_their_last_reading_each() -> None:
    meters = table()
    meters.note(
        reading("M1", NOW - day * DAY + step, 100 - day * 10 + step) for step in range(3) for day in (0, 1, 2)
    )
    closed = {row.day: row.index for row in meters.take().closings}
    assert closed == {"2026-03-01": 102, "2026-02-28": 92, "2026-02-27": 82}


def test_a_meter_is_closed_by_the_quantity_that_is_billed() -> None:
    meters = table()
    meters.note(
        [
            Reading("M2", NOW, {"energy_import": 7, "power": 1}),
            Reading("M2", NOW + 1, {"power": 2}),
            Reading("M9", NOW, {"volume": 1}),  # nobody knows it any more
        ]
    )
    changes = meters.take()
    assert [(row.quantity, row.index, row.read_at) for row in changes.closings] == [("energy_import", 7, NOW)]
    assert [row.values for row in changes.latest] == [{"power": 2}]


def test_a_reading_that_gained_a_quantity_replaces_the_latest() -> None:
    meters = table()
    meters.note([reading("M1", NOW, 1)])
    meters.take()
    meters.note([reading("M1", NOW, 1, values={"flow": 2})])
    changes = meters.take()
    assert changes.latest == []
    assert [row.values for row in changes.replaced] == [{"volume": 1, "flow": 2}]


def test_a_zone_that_nobody_knows_costs_the_closing_and_not_the_reading() -> None:
    meters = table("Asia/Nowhere")
    meters.note([reading("M1", NOW, 1)])
    changes = meters.take()
    assert (len(changes.latest), changes.closings) == (1, [])


def test_facts_change_and_meters_leave() -> None:
    meters = table()
    facts = {"M1": MeterFacts("gw-2", "volume", "UTC"), "M3": MeterFacts("gw-1", "volume", "UTC")}
    assert meters.set_facts(facts) == ["M3"]
    assert (meters.states["M1"].gateway, meters.states["M1"].part) == ("gw-2", part_of("gw-2"))
    meters.keep_only(facts)
    assert set(meters.states) == {"M1"}
