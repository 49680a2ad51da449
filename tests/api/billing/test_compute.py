"""Totals of a town: the quick way and the readings give the same, whatever the order of arrival and the store."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.billing import compute as computing
from api.billing.close import close_period, find_deltas
from api.billing.compute import Tally, Total, compute
from api.billing.keep import refresh
from api.billing.load import Scope
from api.billing.settings import BillingSettings
from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.reading import Reading
from metering.store import ReadingStore
from registry import ledger
from registry.billing_close import verify
from registry.database import Database
from registry.installations import seal
from registry.models import Closing, Installation, Meter
from registry.models_billing import BillingLine, BillingTotal, CalorificValue, GatewayOutage, ReadingCorrection
from registry.occupancy import change_customer
from registry.roles import Actor, Role
from tests.api.billing.town import DAY, HOUR, M, add_place, at, deliver, household, readings
from tests.databases import influxd, serving

START = at("2026-02-10T00:00")
HOURS = 24 * 45
SETTINGS = BillingSettings()
ADMIN = Actor("user:wang", frozenset({Role.ADMIN}), areas=None)


def town(seed: int, count: int = 60) -> tuple[list[tuple[str, dict[str, Any]]], list[Reading]]:
    """Usage points with households of all appetites, some with holes, bad values, rollovers, hidden exchanges."""
    rng = random.Random(seed)
    places: list[tuple[str, dict[str, Any]]] = []
    rows: list[Reading] = []
    for number in range(count):
        point = f"P{number:03d}"
        begin = 99_999 * M if number % 9 == 0 else 1000 * M
        indexes: list[int | None] = list(household(rng, HOURS, begin, rng.choice((5, 40, 200))))
        if number % 7 == 0:
            hole, wide = rng.randrange(HOURS - 300), rng.choice((30, 200))
            indexes[hole : hole + wide] = [None] * wide
        if number % 5 == 0:
            indexes[rng.randrange(100, HOURS - 100)] = 0
        if number % 11 == 0:
            change = rng.randrange(100, HOURS - 100)
            indexes[change:] = household(rng, HOURS - change, 50_000 * M)
        if number % 13 == 0:  # the boundary itself shows a bad value
            indexes[(at("2026-03-20T00:00") - START) // HOUR] = 1700 * M
        places.append((point, {}))
        rows += readings(f"M-{point}", START, indexes[:HOURS])
    return places, rows


def build(database: Database, places: list[tuple[str, dict[str, Any]]]) -> None:
    for point, more in places:
        add_place(database, point, **more)


def facts(total: Total) -> tuple[Any, ...]:
    out = total.outcome
    lines = [
        (line.kind, line.meter, line.opening.sample, line.closing.sample, line.consumption) for line in out.lines
    ]
    return total.place.point.id, out.state, out.cause, out.consumption, out.reverse, lines, total.shown


def all_totals(database: Database, store: ReadingStore, tally: Tally | None = None) -> list[tuple[Any, ...]]:
    blocks = compute(database, store, SETTINGS, "2026-03", tally=tally)
    return [facts(total) for block in blocks for total in block]


def test_closings_prove_what_the_readings_say_and_nothing_else(
    database: Database, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, rows = town(1)
    build(database, places)
    deliver(database, store, rows)
    tally = Tally()
    quick = all_totals(database, store, tally)
    assert tally.ways["closings"] > 10
    assert tally.ways["confirmed"] > 2
    assert tally.ways["readings"] > 10
    monkeypatch.setattr(computing, "_may_be_quick", lambda place, rules: False)
    assert all_totals(database, store) == quick
    assert {state for _, state, *_ in quick} == {"billed", "doubtful", "missing"}


def test_the_same_bill_after_a_replay_in_random_order_with_duplicates_from_both_stores(
    database: Database, store: SqliteStore, tmp_path: Path
) -> None:
    places, rows = town(2, 24)
    build(database, places)
    deliver(database, store, rows)
    first = all_totals(database, store)
    rng = random.Random(3)
    again = [*rows, *rng.sample(rows, len(rows) // 5)]
    rng.shuffle(again)
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")
    other.upgrade()
    build(other, places)
    with serving(influxd(tmp_path / "influxd")) as server:
        influx = InfluxStore(
            InfluxSettings.model_validate({"url": server.url, "database": "billing", "read_back_s": 0.0}),
            mode="write",
            clock=SystemClock(),
        )
        deliver(other, influx, again, batch=5000)
        assert all_totals(other, influx) == first
        influx.close()
    other.close()


def test_the_same_bill_with_the_registry_in_postgresql(
    database: Database, store: SqliteStore, tmp_path: Path, postgres_url: str
) -> None:
    places, rows = town(4, 24)
    build(database, places)
    deliver(database, store, rows)
    first = all_totals(database, store)
    other, again = Database(postgres_url), SqliteStore(tmp_path / "again.db", mode="write")
    build(other, places)
    deliver(other, again, rows)
    tally = Tally()
    assert all_totals(other, again, tally) == first
    assert tally.ways["closings"] > 3
    assert refresh(other, again, SETTINGS, "2026-03", now=1) == 24
    closed = close_period(
        other, again, SETTINGS, ADMIN, "2026-03", now=at("2026-03-27T00:00"),
        missing=tally.states["missing"], doubtful=tally.states["doubtful"],
    )  # fmt: skip
    with other.read() as connection:
        assert verify(connection, closed["id"]) == []
    assert find_deltas(other, again, SETTINGS, "2026-03", now=at("2026-03-28T00:00")) == []
    again.close()
    other.close()


def test_a_household_is_billed_to_the_last_digit(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    indexes = [1000 * M + n * 10_000 for n in range(HOURS)]  # 0.01 m³ an hour
    deliver(database, store, readings("M-P1", START, indexes))
    refresh(database, store, SETTINGS, "2026-03", now=1)
    with database.read() as connection:
        row = connection.execute(sa.select(BillingTotal.__table__)).one()
        line = connection.execute(sa.select(BillingLine.__table__)).one()
    # 20 February to 20 March 2026 is 28 days: 28 x 24 x 0.01 = 6.72 m³; 10 days before it 10 x 24 x 0.01 = 2.4
    assert (row.state, row.consumption, row.opening_index, row.closing_index) == (
        "billed",
        6_720_000,
        1_002_400_000,
        1_009_120_000,
    )
    assert (row.opening_at, row.closing_at) == (at("2026-02-20T00:00"), at("2026-03-20T00:00"))
    assert (row.year_to_date, row.account_number, line.kind, line.meter_id) == (6_720_000, "A-P1", "meter", "M-P1")


def test_a_second_look_writes_only_what_changed(database: Database, store: SqliteStore) -> None:
    for point in ("P1", "P2"):
        add_place(database, point)
        deliver(database, store, readings(f"M-{point}", START, [1000 * M + n * 10_000 for n in range(900)]))
    assert refresh(database, store, SETTINGS, "2026-03", now=1) == 2
    assert refresh(database, store, SETTINGS, "2026-03", now=2) == 0
    deliver(database, store, readings("M-P2", START + 900 * HOUR, [1000 * M + n * 10_000 for n in range(900, 1000)]))
    assert refresh(database, store, SETTINGS, "2026-03", now=3) == 1
    with database.read() as connection:
        versions = connection.execute(sa.select(BillingTotal.usage_point_id, BillingTotal.version)).all()
    assert dict(map(tuple, versions)) == {"P1": 1, "P2": 2}


def one(database: Database, store: SqliteStore, period: str = "2026-03") -> Total:
    (block,) = compute(database, store, SETTINGS, period, Scope(points=("P1",)))
    (total,) = block
    return total


def steady(hours: int = HOURS, start: int = 1000 * M) -> list[int | None]:
    return [start + n * 10_000 for n in range(hours)]


def test_an_exchange_is_two_lines_and_their_sum(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    x = at("2026-03-01T10:30")
    hours = (x - START) // HOUR + 1
    with database.begin() as connection:
        connection.execute(sa.insert(Meter).values(id="NEW", gateway_id="gw-1", medium="gas", quantity="volume"))
        connection.execute(sa.update(Installation).values(removed_at=x, final_index=1005 * M))
        connection.execute(
            sa.insert(Installation).values(meter_id="NEW", usage_point_id="P1", installed_at=x, start_index=3 * M)
        )
    deliver(database, store, readings("M-P1", START, steady(hours)))
    deliver(database, store, readings("NEW", x + HOUR, steady(500, 3 * M)))
    total = one(database, store)
    # old: 1005 - 1002.4 = 2.6; new: 12:30 on 1 March to 23:30 on 19 March is 18 d 12 h = 444 h, 444 x 0.01 = 4.44
    assert [(line.kind, line.consumption) for line in total.outcome.lines] == [
        ("exchange", 2_600_000),
        ("meter", 4_440_000),
    ]
    assert total.outcome.consumption == 7_040_000


def test_an_index_change_without_exchange_stops_billing_until_it_is_recorded(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    indexes = steady()
    change = (at("2026-03-01T00:00") - START) // HOUR
    indexes[change:] = steady(HOURS - change, 50_000 * M)
    deliver(database, store, readings("M-P1", START, indexes))
    total = one(database, store)
    assert (total.outcome.state, total.outcome.cause, total.outcome.consumption) == ("missing", "over_range", None)
    refresh(database, store, SETTINGS, "2026-03", now=1)
    later = one(database, store, "2026-04")
    assert later.outcome.state == "missing"
    x = at("2026-02-28T23:30")
    with database.begin() as connection:
        connection.execute(sa.update(Installation).values(removed_at=x, final_index=1004_550_000))
        connection.execute(
            sa.insert(Installation).values(
                meter_id="M-P1", usage_point_id="P1", installed_at=x, start_index=50_000 * M - 10_000
            )
        )
    total = one(database, store)
    # 1004.55 - 1002.4 = 2.15, and 19 d of 0.24 m³ plus the last hour's 0.01 = 4.57
    assert (total.outcome.state, total.outcome.consumption) == ("billed", 2_150_000 + 4_570_000)


def test_a_gateway_that_was_away_is_named_with_its_times(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    away, back = at("2026-03-12T08:00"), at("2026-03-21T08:00")
    rows = [row for row in readings("M-P1", START, steady()) if not away <= row.read_at < back]
    deliver(database, store, rows)
    with database.begin() as connection:
        connection.execute(sa.insert(GatewayOutage).values(gateway="gw-1", from_at=away, to_at=back))
    outcome = one(database, store).outcome
    assert (outcome.state, outcome.cause) == ("missing", "gateway_down")
    assert "from 2026-03-12T00:00:00.000Z to 2026-03-21T00:00:00.000Z (9.0 d)" in outcome.detail


@pytest.mark.parametrize(
    ("m3", "state", "shown"), [(49, "billed", ""), (51, "billed", "large_use"), (101, "doubtful", "large_use")]
)
def test_household_gas_is_shown_above_50_and_read_again_above_100(
    database: Database, store: SqliteStore, m3: int, state: str, shown: str
) -> None:
    add_place(database, "P1")
    hours = 28 * 24
    rate = -(-m3 * M // hours)
    deliver(database, store, readings("M-P1", START, [1000 * M + n * rate for n in range(HOURS)]))
    total = one(database, store)
    assert (total.outcome.state, total.shown) == (state, shown)


def test_sealed_and_not_in_service_are_excluded_unless_the_meter_counted(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1", state="installed")
    deliver(database, store, readings("M-P1", START, [1000 * M] * HOURS))
    assert (one(database, store).outcome.state, one(database, store).outcome.cause) == ("excluded", "not_in_service")
    add_place(database, "P2", state="installed")
    deliver(database, store, readings("M-P2", START, steady()))
    (block,) = compute(database, store, SETTINGS, "2026-03", Scope(points=("P2",)))
    assert (block[0].outcome.state, block[0].outcome.cause) == ("doubtful", "used_out_of_service")


def test_a_usage_point_without_a_meter_and_one_never_read_are_missing(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    assert (one(database, store).outcome.state, one(database, store).outcome.cause) == ("missing", "not_commissioned")
    with database.begin() as connection:
        connection.execute(sa.delete(Installation))
    assert (one(database, store).outcome.state, one(database, store).outcome.cause) == ("missing", "no_meter")


def test_a_manual_reading_two_days_late_closes_this_period_and_opens_the_next(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    rows = [
        r
        for r in readings("M-P1", START, steady())
        if not at("2026-03-15T00:00") <= r.read_at <= at("2026-03-23T00:00")
    ]
    hand = at("2026-03-22T09:00")
    by_hand = Reading("M-P1", hand, {"volume": 1010 * M}, received_at=hand, source="manual", quality="manual")
    deliver(database, store, [*rows, by_hand])
    march, april = one(database, store), one(database, store, "2026-04")
    assert (march.outcome.state, march.outcome.lines[-1].closing.at) == ("billed", hand)
    assert march.outcome.consumption == 1010 * M - 1_002_400_000
    assert april.outcome.hole == ("M-P1", at("2026-04-20T00:00"))
    deliver(database, store, readings("M-P1", at("2026-04-19T23:00"), [1020 * M, 1020 * M, 1020 * M]))
    assert one(database, store, "2026-04").outcome.lines[0].opening.at == hand


def test_a_correction_stands_in_for_what_was_read_and_is_marked(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", START, steady()))
    with database.begin() as connection:
        connection.execute(
            sa.insert(ReadingCorrection).values(
                meter_id="M-P1",
                read_at=at("2026-03-20T00:00"),
                quantity="volume",
                was=1_009_120_000,
                becomes=1_009_100_000,
                reason="read from a photograph",
                actor="user:li",
                at=1,
            )
        )
    total = one(database, store)
    assert (total.outcome.consumption, total.outcome.edited, total.shown) == (6_700_000, True, "edited")


def test_an_extra_day_and_a_new_calorific_value_cut_the_period(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", START, steady()))
    with database.begin() as connection:
        for day, value in (("2026-01-01", 10_500_000), ("2026-03-10", 10_700_001)):
            connection.execute(
                sa.insert(CalorificValue).values(district="", from_day=day, value=value, created_by="x", created_at=1)
            )
    outcome = one(database, store).outcome
    # 18 d x 0.24 = 4.32 m³ x 10.5 = 45.36 kWh; 10 d x 0.24 = 2.4 m³ x 10.700001 = 25.6800024, rounded to 25.680002
    assert [line.energy for line in outcome.lines] == [45_360_000, 25_680_002]
    assert outcome.energy == 71_040_002
    assert outcome.consumption == 6_720_000


def test_actual_and_standard_volume_stand_beside_each_other(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1", quantity="volume_standard", customer_class="industrial")
    rows = [
        replace_values(row, {"volume_standard": row.values["volume"] * 2, "volume_actual": row.values["volume"]})
        for row in readings("M-P1", START + 2 * DAY, steady())
    ]
    deliver(database, store, rows)
    outcome = one(database, store).outcome
    assert outcome.consumption == 13_440_000
    assert outcome.companions == {"volume_actual": 6_720_000}


def replace_values(row: Reading, values: dict[Any, int]) -> Reading:
    return Reading(row.meter, row.read_at, values, received_at=row.received_at)


def test_closings_with_doubtful_quality_are_left_to_the_readings(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    rows = readings("M-P1", START, steady())
    deliver(database, store, rows)
    with database.begin() as connection:
        connection.execute(sa.update(Closing).where(Closing.day == "2026-03-01").values(quality="suspect"))
    tally = Tally()
    assert all_totals(database, store, tally)[0][3] == 6_720_000
    assert tally.ways["readings"] == 1


def test_estimation_draws_a_line_only_where_it_is_switched_on(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    hole = range((at("2026-03-17T00:00") - START) // HOUR, (at("2026-03-22T00:00") - START) // HOUR)
    indexes = [None if n in hole else index for n, index in enumerate(steady())]
    deliver(database, store, readings("M-P1", START, indexes))
    assert one(database, store).outcome.state == "missing"
    on = SETTINGS.model_copy(update={"estimation": "linear"})
    (block,) = compute(database, store, on, "2026-03")
    outcome = block[0].outcome
    assert (outcome.state, outcome.consumption, outcome.method) == ("billed", 6_720_000, "linear")
    assert block[0].shown == "estimated"


def test_a_change_of_customer_in_mid_period_splits_the_total_at_its_final_reading(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", START, steady()))
    moved = at("2026-03-02T10:20")
    with database.begin() as connection:
        change_customer(
            connection,
            ADMIN,
            "P1",
            account_number="A-NEW",
            at=moved,
            indexes={"M-P1": 1_004_905_000},
            now=moved + DAY,
        )
    outcome = one(database, store).outcome
    # opening 1002.40; read by hand 1004.905; closing 1009.12
    assert [(line.kind, line.customer, line.consumption) for line in outcome.lines] == [
        ("customer", "A-P1", 2_505_000),
        ("meter", "A-NEW", 4_215_000),
    ]
    assert (outcome.state, outcome.consumption) == ("billed", 6_720_000)


def test_a_seal_excludes_the_periods_after_it_and_not_the_one_it_falls_into(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    sealed = at("2026-03-10T00:00")
    hours = (sealed - START) // HOUR
    level = 1000 * M + hours * 10_000
    deliver(database, store, readings("M-P1", START, [*steady(hours), *[level] * (24 * 75 - hours)]))
    with database.begin() as connection:
        seal(connection, ADMIN, "P1", "M-P1", at=sealed, index=level, now=sealed + DAY)
    march, april = one(database, store), one(database, store, "2026-04")
    assert (march.outcome.state, march.outcome.consumption) == ("billed", 18 * 240_000)
    assert (april.outcome.state, april.outcome.cause) == ("excluded", "sealed")


def test_a_boundary_index_for_which_another_value_was_refused_is_doubtful(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", START, steady()))
    with database.begin() as connection:
        refused = ledger.QuarantineRow(
            "gw-1", "d", 1, "conflict", "x", b"x", meter="M-P1", read_at=at("2026-03-20T00:00")
        )
        ledger.add_quarantine(connection, [refused])
    outcome = one(database, store).outcome
    assert (outcome.state, outcome.cause, outcome.consumption) == ("doubtful", "conflict", 6_720_000)
