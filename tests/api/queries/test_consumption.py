"""Consumption of one meter: gaps stay gaps, and steps are what `metering.steps` calls them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from api.queries.consumption import Cell, daily, hourly, monthly, shown, whole
from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from metering.steps import limits_of

LIMITS = limits_of(digits=4, resolution=1_000, qmax=6_000_000)  # rolls over at 10000 m³; 9 m³/h count as possible
M3 = 1_000_000
DAY_MS = 86_400_000


def closings(*indexes: int | None) -> dict[date, tuple[int, int]]:
    """Closings of 2026-03-01 and the days behind it [m³]; None: there is none."""
    return {
        date(2026, 3, day): (day * DAY_MS, index * M3) for day, index in enumerate(indexes, 1) if index is not None
    }


def days(*indexes: int | None) -> list[tuple[int | None, str]]:
    cells = daily(closings(*indexes), date(2026, 3, 2), date(2026, 3, len(indexes)), LIMITS)
    return [(None if cell.micro is None else cell.micro // M3, cell.mark) for cell in cells]


def test_a_missing_day_makes_two_gaps_and_no_zero() -> None:
    assert days(100, 103, None, 110, 110) == [(3, ""), (None, "gap"), (None, "gap"), (0, "")]


def test_reverse_and_rollover_are_marked_and_counted() -> None:
    assert days(100, 95, 97) == [(-5, "reverse"), (2, "")]
    assert days(9998, 3) == [(5, "rollover")]


def test_a_step_that_no_flow_explains_has_no_consumption() -> None:
    assert days(100, 5000) == [(None, "pending")]  # 4900 m³ in a day; 216 and two counts of rounding could pass


def test_a_month_with_a_gap_has_no_sum() -> None:
    cells = [Cell("2026-02-28", 1), Cell("2026-03-01", 2), Cell("2026-03-02", 3), Cell("2026-04-01", None, "gap")]
    assert monthly(cells) == [Cell("2026-02", 1), Cell("2026-03", 5), Cell("2026-04", None, "gap")]


def store_of(tmp_path: Path, at: list[tuple[datetime, int]]) -> SqliteStore:
    path = tmp_path / "readings.db"
    writer = SqliteStore(path, mode="write")
    writer.write([Reading("M", round(when.timestamp() * 1000), {"volume": index * 1000}) for when, index in at])
    writer.close()
    return SqliteStore(path, mode="read")


def test_hours_take_the_index_near_their_ends_and_night_is_the_smallest(tmp_path: Path) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    # index in litres; read at 00:00, 00:50, 02:00, 03:00, not at 04:00, 05:00
    at = [
        (start.replace(hour=h, minute=m), i)
        for h, m, i in ((0, 0, 0), (0, 50, 40), (2, 0, 100), (3, 0, 107), (5, 0, 120))
    ]
    store = store_of(tmp_path, at)
    cells, complete = hourly(
        store, "M", "volume", first=start, last=start.replace(hour=5), lead_s=1800, limits=LIMITS
    )
    store.close()
    assert complete
    assert [(cell.at[-2:], cell.micro) for cell in cells] == [
        ("00", 40_000),
        ("01", 60_000),
        ("02", 7_000),
        ("03", None),
        ("04", None),
    ]
    found = whole(cells, [], complete=True)
    assert found.night_minimum == 7_000
    assert shown(found, "m3")["heat"]["cells"] == [[0, 0, "0.04"], [1, 0, "0.06"], [2, 0, "0.007"]]


def test_the_day_on_which_clocks_go_back_has_twenty_five_hours(tmp_path: Path) -> None:
    zone = ZoneInfo("Europe/Berlin")
    store = store_of(tmp_path, [])
    first, last = datetime(2026, 10, 25, tzinfo=zone), datetime(2026, 10, 26, tzinfo=zone)
    cells, _ = hourly(store, "M", "volume", first=first, last=last, lead_s=1800, limits=LIMITS)
    store.close()
    assert len(cells) == 25
    assert [cell.at[-2:] for cell in cells][1:5] == ["01", "02", "02", "03"]
