"""Read rates: how each meter came to its index, told from received_at, source and the failures that were reported."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from api.billing import rates, report
from api.billing.keep import refresh
from api.billing.settings import BillingSettings
from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from registry import ledger
from registry.database import Database
from tests.api.billing.town import HOUR, M, add_place, at, deliver, readings

SETTINGS = BillingSettings()
START = at("2026-02-10T00:00")
END = at("2026-03-20T00:00")
NOW = at("2026-03-25T09:00")


def hourly(meter: str) -> list[Reading]:
    """1000 m³ on 10 February, a hundredth more each hour."""
    return readings(meter, START, [1000 * M + n * 10_000 for n in range(24 * 43)])


def failed(meter: str, moment: int, number: int) -> ledger.EventRow:
    return ledger.EventRow("gw-1", "e", number, f"d{number}", moment, moment, "read_failed", meter, "timeout", 1, "")


def seven(database: Database, store: SqliteStore) -> None:
    """Seven households, each read in its own way; an eighth is sealed and not due."""
    for point in ("first", "retry", "late", "hand", "early", "away", "hidden"):
        add_place(database, point, district="north")
    add_place(database, "sealed", state="sealed")
    rows = [*hourly("M-first"), *hourly("M-retry")]
    rows += [replace(r, received_at=r.read_at + 9 * HOUR) for r in hourly("M-late")]
    rows += [r for r in hourly("M-hand") if not END - 40 * HOUR < r.read_at <= END]
    rows = [
        replace(r, source="manual", quality="manual") if r.read_at == END + HOUR and r.meter == "M-hand" else r
        for r in rows
    ]
    rows += [r for r in hourly("M-early") if not END - 5 * HOUR < r.read_at < END + 3 * HOUR]
    rows += [r for r in hourly("M-away") if r.read_at < END - 10 * 24 * HOUR]
    # an exchange that nobody recorded: read at the reading day, and no total comes of it
    rows += [r if r.read_at < END - 9 * HOUR else replace(r, values={"volume": 7 * M}) for r in hourly("M-hidden")]
    deliver(database, store, sorted(rows, key=lambda r: (r.meter, r.read_at)))
    with database.begin() as connection:
        ledger.add_events(connection, [failed("M-retry", END - HOUR // 2, 1), failed("M-first", END - 90 * HOUR, 2)])
    refresh(database, store, SETTINGS, "2026-03", now=NOW)


def test_each_meter_counts_for_the_way_its_index_came(database: Database, store: SqliteStore) -> None:
    seven(database, store)
    found = [visit for page in rates.visits(database, store, SETTINGS, "2026-03", None) for visit in page]
    assert {visit.usage_point: visit.way for visit in found} == {
        "first": "first_try",
        "retry": "after_retry",
        "late": "after_backfill",
        "hand": "by_hand",
        "early": "earlier",
        "away": "missing",
        "hidden": "first_try",
    }
    by_point = {visit.usage_point: visit for visit in found}
    assert by_point["hidden"].state == "missing"
    assert (by_point["away"].why, by_point["away"].gateway) == ("meter_silent", "gw-1")


def test_the_report_sets_the_rate_against_the_target_and_rounds_down(database: Database, store: SqliteStore) -> None:
    seven(database, store)
    groups: dict[report.Group, rates.Sum] = {}
    total = rates.new_sum()
    for page in rates.visits(database, store, SETTINGS, "2026-03", None):
        for visit in page:
            groups.setdefault(rates.group_of(visit, "class"), rates.new_sum()).add(visit)
            total.add(visit)
    made = report.report(SETTINGS, "2026-03", groups, total, {("residential", "gas"): {"solved": 2}}, now=NOW)
    (line,) = made.lines
    # six of seven: 85.714 %
    assert (line.due, line.read, line.missing, line.rate) == (7, 6, 1, "85.71")
    assert (line.target, line.met, line.solved, line.still_open) == ("98", False, 2, 0)
    assert (line.accuracy, line.missing_why) == ("100.00", {"meter_silent": 1})
    csv = report.report_csv(made).decode().splitlines()
    assert csv[1].startswith("2026-03,residential,gas,7,6,0,1,85.71,98,no,")
    html = report.report_html(made)
    assert "<td>85.71</td><td>98</td><td>no</td>" in html
    assert "<script" not in html


def test_nothing_due_has_no_rate_and_a_target_is_met_to_the_last_meter() -> None:
    assert rates.percent(0, 0) is None
    assert (rates.percent(99_999, 100_000), rates.percent(3, 3)) == ("99.99", "100.00")
    assert rates.reached(99_999, 100_000, 100 * M) is False
    assert rates.reached(98, 100, 98 * M) is True
    assert rates.reached(0, 0, 98 * M) is None


def test_targets_are_settings_and_a_class_of_its_own_goes_first() -> None:
    own = BillingSettings(read_rates=("any gas 70", "residential gas 98.5"))
    assert own.rate_of("residential", "gas") == 98_500_000
    assert own.rate_of("commercial", "gas") == 70_000_000
    assert own.rate_of("commercial", "water") is None


def test_estimates_are_told_apart_with_their_method(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    deliver(database, store, [r for r in hourly("M-P1") if not END - 40 * HOUR < r.read_at < END + 40 * HOUR])
    linear = BillingSettings(estimation="linear")
    refresh(database, store, linear, "2026-03", now=NOW)
    (page,) = rates.visits(database, store, linear, "2026-03", None)
    assert [(visit.way, visit.why) for visit in page] == [("estimated", "linear")]
    total = rates.new_sum()
    total.add(page[0])
    assert (total.due, total.read, total.estimated) == (1, 0, Counter(linear=1))


def test_long_standing_exceptions_are_those_that_the_period_before_left_open(
    database: Database, store: SqliteStore
) -> None:
    for point in ("solved", "open", "fine"):
        add_place(database, point)
    february, march = at("2026-02-20T00:00"), END
    rows = [r for r in hourly("M-solved") if not february - 30 * HOUR < r.read_at < february + 30 * HOUR]
    deliver(database, store, rows + [r for r in hourly("M-open") if r.read_at > march] + hourly("M-fine"))
    # a usage point whose total is missing at its start has none in either period
    for period in ("2026-02", "2026-03", "2026-04"):
        refresh(database, store, SETTINGS, period, now=NOW)
    with database.read() as connection:
        found = report.lasting_exceptions(connection, None, "2026-03")
        nobody = report.lasting_exceptions(connection, frozenset({"elsewhere"}), "2026-03")
    assert found == {("residential", "gas"): {"still_open": 2, "solved": 1}}
    assert nobody == {}
