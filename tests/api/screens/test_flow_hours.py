"""Flow of the last hour: the same meters a week before, gaps counted as gaps, worked out twice and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api.queries.hourly_flow import FlowLine, flow_now
from api.screens.flow_hours import HOUR_MS, keep, last_hour, week_before
from metering.reading import Reading
from metering.store import ReadingStore
from tests.api.world import T0, World, write_readings

WEEK = 7 * 86_400_000
NOON = T0 + WEEK + 12 * HOUR_MS
AT = NOON + 5 * 60_000
ROW = FlowLine("gas", "volume_standard", micro=0, known=0, due=1, same=0, same_now=0, same_then=0)


def gas(when: int, index: int, **more: Any) -> Reading:
    return Reading("G-0001", when, {"volume_standard": index}, received_at=when + 1000, **more)


def opened(world: World) -> ReadingStore:
    return type(world.store)(world.folder / "readings.db", mode="read")  # type: ignore[call-arg]  # the embedded store


def test_an_hour_is_compared_with_the_same_meters_a_week_before(world: World) -> None:
    # a week ago G-0001 passed 0.5 m³ in each hour (tests.api.world); now 0.6 m³ from 11:00 to 12:00
    write_readings(world.folder / "readings.db", [gas(NOON - HOUR_MS, 1_090_000_000), gas(NOON, 1_090_600_000)])
    store = opened(world)
    assert keep(world.database, store, AT) == 1
    with world.database.read() as connection:
        found = flow_now(connection, areas=None, now_ms=AT)
        south = flow_now(connection, areas=frozenset({"south"}), now_ms=AT)
    assert found.hour == NOON - HOUR_MS
    lines = {line.medium: line for line in found.city}
    expected = replace(ROW, micro=600_000, known=1, same=1, same_now=600_000, same_then=500_000)
    assert lines["gas"] == expected
    assert (lines["gas"].amount, lines["gas"].unit, lines["gas"].change) == ("0.6", "m3/h", "+20.0")
    assert (lines["water"].known, lines["water"].due, lines["water"].amount, lines["water"].change) == (0, 1, "–", "")
    assert {line.medium for line in found.districts["north"]} == {"gas", "electricity"}
    assert {line.medium for line in south.city} == {"water"}
    store.close()


def test_an_hour_is_worked_out_again_when_late_readings_had_time_and_then_no_more(world: World) -> None:
    write_readings(world.folder / "readings.db", [gas(NOON - HOUR_MS, 1_090_000_000)])
    store = opened(world)
    assert keep(world.database, store, AT) == 1
    assert keep(world.database, store, AT + 60_000) == 0
    assert keep(world.database, store, AT + 600_000) == 1  # nobody was known: perhaps ingest was still busy
    write_readings(world.folder / "readings.db", [gas(NOON, 1_090_600_000)])  # it came late
    assert keep(world.database, store, AT + HOUR_MS) == 2  # the next hour, and this one again
    assert keep(world.database, store, AT + HOUR_MS + 60_000) == 0
    with world.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT hour, micro FROM hourly_flow WHERE medium = 'gas' ORDER BY hour")
        assert [tuple(row) for row in rows] == [(NOON - HOUR_MS, 600_000), (NOON, 0)]
    store.close()


def test_a_suspect_index_and_an_old_one_are_not_known(world: World) -> None:
    readings = [gas(NOON - HOUR_MS - 40 * 60_000, 1_090_000_000), gas(NOON, 1_090_600_000, quality="suspect")]
    write_readings(world.folder / "readings.db", readings)
    store = opened(world)
    keep(world.database, store, AT)
    with world.database.read() as connection:
        lines = {line.medium: line for line in flow_now(connection, areas=None, now_ms=AT).city}
    assert lines["gas"].known == 0
    store.close()


def test_an_old_hour_is_not_shown_as_now(world: World) -> None:
    keep(world.database, world.store, AT)
    with world.database.read() as connection:
        assert flow_now(connection, areas=None, now_ms=AT + 4 * HOUR_MS).hour is None


def test_the_hour_is_that_of_the_citys_clock() -> None:
    # 2026-03-29 in Berlin: 02:00 was left out; a week before 12:00 there was 11:00 UTC, now it is 10:00 UTC
    noon = T0 + 29 * 86_400_000 + 10 * HOUR_MS
    assert week_before(noon, "Europe/Berlin") == noon - WEEK + HOUR_MS
    assert last_hour(noon + 60_000, "Europe/Berlin") == noon - HOUR_MS
    assert last_hour(noon, "Asia/Kolkata") == noon - HOUR_MS - HOUR_MS // 2  # half past by UTC


def test_amounts_are_rounded_half_up_and_changes_have_a_sign() -> None:
    line = replace(ROW, micro=1_250_000, known=1, same=1, same_now=90, same_then=100)
    assert (line.amount, line.change) == ("1.3", "-10.0")
    assert replace(line, same_then=0).change == ""
    assert replace(line, known=0).amount == "–"
