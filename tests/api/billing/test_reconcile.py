"""Reconciliation: bought = used + left, SCADA against meters, a parent against its children; worked by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa

from api.billing import reconcile_parent, reconcile_prepaid, reconcile_scada, reconcile_words
from api.billing.keep import refresh
from api.billing.reconcile import ask_for_exchanges, reconcile, results, spoken
from api.billing.reconcile_parent import Count
from api.billing.reconcile_prepaid import Span
from api.billing.reconcile_scada import Stretch
from api.billing.reconcile_settings import ReconcileSettings
from api.billing.reconcile_words import Kind
from api.billing.settings import BillingSettings
from api.orders.working_days import WorkCalendar
from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
from registry.database import Database
from registry.models_books import ImportBatch
from registry.models_reconcile import Purchase, ScadaTotal, SupplyLink
from registry.models_work_orders import WorkOrder
from registry.refusals import RefusedError
from registry.roles import console
from tests.api.billing.town import DAY, HOUR, ZONE, M, add_place, at, deliver, readings

LI = console("li")
NOW = at("2026-03-25T00:00")
START, END = at("2026-02-20T00:00"), at("2026-03-20T00:00")
HOURS = (END - START) // HOUR  # 672
SETTINGS = ReconcileSettings()
BILLING = BillingSettings()
CALENDAR = WorkCalendar()


# -- prepaid: the arithmetic ---------------------------------------------------------------------------------------

SPAN = Span("M1", START, END, 20 * M, 35 * M)


@pytest.mark.parametrize(
    ("used", "bought", "verdict", "cause", "off"),
    [
        (45, [(START + DAY, 60)], "agrees", "", 0),  # 20 + 60 - 45 - 35
        (44, [(START + DAY, 60)], "agrees", "", 1),  # 1 m³ is the tolerance
        (43, [(START + DAY, 60)], "mismatch", "credit_short", 2),
        (48, [(START + DAY, 60)], "mismatch", "credit_over", -3),
        (45, [(START + DAY, 60), (END - DAY, 50)], "waiting", "not_loaded_yet", 50),  # the card is at home still
        (45, [(START + DAY, 60), (END - 20 * DAY, 50)], "mismatch", "credit_short", 50),  # 20 days are too long
        (75, [(START - DAY, 30), (START + DAY, 60)], "agrees", "loaded_late", -30),
        (45, [(START + DAY, 60), (END - DAY, 50), (END - 2 * DAY, 30)], "waiting", "not_loaded_yet", 80),
        (95, [(START + DAY, 60), (END - DAY, 50), (END - 2 * DAY, 30)], "waiting", "not_loaded_yet", 30),
        (
            85,
            [(START + DAY, 60), (END - DAY, 50), (END - 2 * DAY, 30)],
            "mismatch",
            "credit_short",
            40,
        ),  # no sum is 40
    ],
)
def test_bought_is_used_and_left_or_still_in_the_customers_pocket(
    used: int, bought: list[tuple[int, int]], verdict: str, cause: str, off: int
) -> None:
    purchases = [(when, volume * M) for when, volume in bought]
    found = reconcile_prepaid.balance(SPAN, used * M, purchases, SETTINGS, counters=(used * M, used * M))
    assert (found.verdict, found.cause, found.difference) == (verdict, cause, off * M)


def test_a_counter_that_stands_still_beside_one_that_runs_is_a_mismatch() -> None:
    bought = [(START + DAY, 15 * M)]
    found = reconcile_prepaid.balance(SPAN, 0, bought, SETTINGS, counters=(40 * M, 0))
    assert (found.verdict, found.cause, found.difference) == ("mismatch", "counter_still", 0)


# -- SCADA: the arithmetic -----------------------------------------------------------------------------------------


def test_scada_rows_are_cut_at_local_midnights_and_at_gaps() -> None:
    rows = [(START + n * HOUR, START + (n + 1) * HOUR, M) for n in [*range(30), *range(31, 36)]]
    found = reconcile_scada.stretches(rows, ZONE)
    assert [(p.start - START, p.end - START, p.scada) for p in found] == [
        (0, 24 * HOUR, 24 * M),
        (24 * HOUR, 30 * HOUR, 6 * M),
        (31 * HOUR, 36 * HOUR, 5 * M),
    ]


@pytest.mark.parametrize(
    ("metered", "verdict", "cause"),
    [
        ([1000] * 10, "agrees", ""),
        ([1019] * 10, "agrees", ""),  # 1.9 %
        ([1021] * 10, "shown", "meter_above"),  # 2.1 %
        ([949] * 10, "look", "meter_below"),  # 5.1 %
        ([1060, 940, *[1000] * 8], "shown", "single_days"),
        ([None, *[1000] * 9], "agrees", ""),  # 90 % are covered
        ([None, None, *[1000] * 8], "not_knowable", "meter_gaps"),
    ],
)
def test_deviation_bands(metered: list[int | None], verdict: str, cause: str) -> None:
    parts = [
        Stretch(START + n * DAY, START + (n + 1) * DAY, 1000 * M, None if used is None else used * M)
        for n, used in enumerate(metered)
    ]
    found = reconcile_scada.judge(parts, START, START + 10 * DAY, ZONE, SETTINGS)
    assert (found.verdict, found.cause) == (verdict, cause)


# -- parent: the arithmetic ----------------------------------------------------------------------------------------

P15 = 1_500_000  # 1.5 % in 10⁻⁶ %


def test_the_band_is_the_joined_uncertainty_of_all_meters() -> None:
    # a = 1.5 % of 300 and of 400 m³: 4.5 and 6; sqrt(4.5² + 6²) = 7.5; 2 * 7.5 / sqrt 3 = 8.660254...
    assert reconcile_parent.band_of([300 * M * P15, 400 * M * P15]) == 8_660_255


@pytest.mark.parametrize(
    ("parent", "verdict", "loss"),
    [(1000, "agrees", 0), (1020, "agrees", 20), (1030, "loss", 30), (980, "agrees", -20), (970, "gain", -30)],
)
def test_a_loss_is_told_beyond_the_band(parent: int, verdict: str, loss: int) -> None:
    # band at 1000 = 500 + 500: a = 15, 7.5, 7.5; sqrt(337.5) = 18.37; 2/sqrt 3 times that = 21.21 m³
    children = [Count("A", 500 * M, P15), Count("B", 500 * M, P15)]
    found = reconcile_parent.judge(Count("P", parent * M, P15), children)
    assert (found.verdict, found.difference) == (verdict, loss * M)
    assert 20 * M < found.facts["band"] < 22 * M
    assert found.facts["worst_case"] == (parent * 15_000 + 15 * M)


@pytest.mark.parametrize(
    ("known", "at_most", "verdict", "cause"),
    [
        (500, 490, "not_knowable", "children_missing"),  # it may have used all of it
        (500, 100, "loss", ""),  # 500 are not accounted for, 100 at most are the child's
        (1040, 480, "gain", ""),  # too much already
        (999, 5, "agrees", ""),  # what it may have used is less than the band
        (500, None, "not_knowable", "children_missing"),
    ],
)
def test_a_child_without_a_total_widens_what_may_be(
    known: int, at_most: int | None, verdict: str, cause: str
) -> None:
    missing = Count("B", None, P15, "gateway_down", None if at_most is None else at_most * M)
    found = reconcile_parent.judge(Count("P", 1000 * M, P15), [Count("A", known * M, P15), missing])
    assert (found.verdict, found.cause, found.difference) == (verdict, cause, (1000 - known) * M)
    assert found.facts["missing_children"] == [{"usage_point": "B", "cause": "gateway_down"}]


def test_without_the_parents_total_nothing_is_told() -> None:
    found = reconcile_parent.judge(Count("P", None, P15, "reset"), [Count("A", M, P15)])
    assert (found.verdict, found.cause, found.difference) == ("not_knowable", "parent_reset", None)


# -- the whole way -------------------------------------------------------------------------------------------------


def posted(database: Database, table: Any, rows: list[dict[str, Any]]) -> None:
    """Rows of a posted batch."""
    with database.begin() as connection:
        batch = connection.execute(
            sa.insert(ImportBatch)
            .values(kind="x", file="x", digest="x", state="posted", made_at=0, made_by="li", summary={})
            .returning(ImportBatch.id)
        ).scalar_one()
        connection.execute(sa.insert(table), [row | {"batch_id": batch, "line": 2} for row in rows])


def run(database: Database, store: SqliteStore, kind: Kind) -> list[dict[str, Any]]:
    reconcile(database, store, BILLING, LI, kind, "2026-03", now=NOW)
    with database.read() as connection:
        return [spoken(row) for row in results(connection, kind, "2026-03")]


def prepaid(meter: str, *, rate: int = 50_000, leak: int = 0, loads: dict[int, int] | None = None) -> list[Reading]:
    """Hourly readings from a day before the period on; credit falls with the index, rises by loads {hour: m³}."""
    found, credit, index = [], 100 * M, 1000 * M
    for n in range(-24, HOURS + 49):
        credit += (loads or {}).get(n, 0) * M - rate - leak
        index += rate
        when = START + n * HOUR
        found.append(Reading(meter, when, {"volume": index, "credit": credit}, received_at=when))
    return found


def test_a_prepaid_meter_that_disagrees_asks_for_one_urgent_exchange(database: Database, store: SqliteStore) -> None:
    for point in ("P1", "P2", "P3"):
        add_place(database, point, district="D1")
    rows = [*prepaid("M-P1", loads={100: 30}), *prepaid("M-P2", leak=10_000, loads={100: 30})]
    deliver(database, store, [*rows, *readings("M-P3", START, [M] * 700)])
    assert [(r["usage_point"], r["verdict"], r["cause"]) for r in run(database, store, "prepaid")] == [
        ("P1", "not_knowable", "no_purchases"),
        ("P2", "not_knowable", "no_purchases"),
    ]  # fmt: skip
    bought = [{"usage_point_id": p, "at": START + 99 * HOUR, "volume": 30 * M, "reference": ""} for p in ("P1", "P2")]
    posted(database, Purchase, bought)
    one, two = run(database, store, "prepaid")
    assert (one["verdict"], one["difference"], one["facts"]["used"]) == ("agrees", "0", "33.6")  # 672 h of 0.05 m³
    assert (two["verdict"], two["cause"], two["difference"]) == ("mismatch", "credit_short", "6.72")
    for _ in range(2):  # a second look opens no second order
        with database.begin() as connection:
            numbers = ask_for_exchanges(connection, LI, "2026-03", SETTINGS, calendar=CALENDAR, now=NOW)
        run(database, store, "prepaid")
    assert numbers == []
    with database.read() as connection:
        (order,) = connection.execute(sa.select(WorkOrder)).all()
    assert (order.type, order.priority, order.state, order.usage_point_id, order.meter) == (
        "meter_exchange", "urgent", "accepted", "P2", "M-P2",
    )  # fmt: skip
    assert "disagrees by 6.72 m³ (credit_short)" in order.reason_en
    assert run(database, store, "prepaid")[1]["work_order"] == order.id


def test_more_mismatches_than_meters_can_be_broken_open_nothing(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    deliver(database, store, prepaid("M-P1", leak=10_000))
    posted(database, Purchase, [{"usage_point_id": "P1", "at": START, "volume": M, "reference": ""}])
    run(database, store, "prepaid")
    few = ReconcileSettings(most_orders=0)
    with database.begin() as connection, pytest.raises(RefusedError, match="whether purchases are missing"):
        ask_for_exchanges(connection, LI, "2026-03", few, calendar=CALENDAR, now=NOW)


def test_three_numbers_the_credit_is_charged_with_the_accumulated_volume(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1", customer_class="industrial")
    rows = [
        Reading("M-P1", when, {"volume": 100 * M + n * 10 * M, "volume_standard": 50 * M + n * 25 * M,
                               "credit": 900 * M - n * 25 * M}, received_at=when)
        for n, when in enumerate(range(START, END + 3 * DAY, DAY))
    ]  # fmt: skip
    deliver(database, store, rows)
    posted(database, Purchase, [{"usage_point_id": "P1", "at": START, "volume": M, "reference": ""}])
    (one,) = run(database, store, "prepaid")
    facts = one["facts"]
    assert (one["verdict"], facts["mechanical"], facts["accumulated"], facts["used"]) == (
        "agrees",
        "280",
        "700",
        "700",
    )
    assert (facts["credit_before"], facts["credit_after"]) == ("900", "200")


def test_scada_days_are_compared_with_the_meter(database: Database, store: SqliteStore) -> None:
    for point in ("P1", "P2"):
        add_place(database, point, customer_class="industrial", qmax=1000 * M)
        deliver(database, store, readings(f"M-{point}", START - DAY, [n * 10 * M for n in range(HOURS + 96)]))
    days = [(point, START + n * DAY) for point in ("P1", "P2") for n in range(28)]
    posted(
        database,
        ScadaTotal,
        [
            {"usage_point_id": p, "from_at": t, "to_at": t + DAY, "volume": (240 if p == "P1" else 260) * M}
            for p, t in days
        ],
    )
    one, two = run(database, store, "scada")
    assert (one["verdict"], one["difference"], one["facts"]["covered_percent"]) == ("agrees", "0", "100")
    assert (two["verdict"], two["cause"], two["difference"]) == ("look", "meter_below", "-560")  # 28 days of 20 m³
    assert two["facts"]["deviation_percent"] == "-7.692308"
    assert (two["facts"]["days_beyond"], two["facts"]["worst_days"][0]["metered"]) == (28, "240")


def test_a_parent_is_held_against_its_children_for_as_long_as_it_supplied_them(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "TOP", customer_class="industrial", qmax=1000 * M)
    for point in ("A", "B", "C"):
        add_place(database, point)
    hourly = {"TOP": 300_000, "A": 100_000, "B": 100_000, "C": 100_000}
    for point, rate in hourly.items():
        deliver(database, store, readings(f"M-{point}", START - DAY, [n * rate for n in range(HOURS + 96)]))
    middle = START + 14 * DAY
    links = [("TOP", "A", 1000), ("TOP", "B", 1000), ("TOP", "C", 1000), ("", "C", middle)]
    posted(
        database,
        SupplyLink,
        [{"parent_id": p, "child_id": c, "from_at": t, "parent_class": "1", "child_class": ""} for p, c, t in links],
    )
    (one,) = run(database, store, "parent")
    # TOP 672 h x 0.3 = 201.6; A and B 67.2 each; C 336 h x 0.1 = 33.6 until it left: 33.6 are lost
    assert (one["usage_point"], one["verdict"], one["difference"]) == ("TOP", "loss", "33.6")
    assert (one["facts"]["parent"], one["facts"]["children"], one["facts"]["known"]) == ("201.6", "168", 3)
    refresh(database, store, BILLING, "2026-03", now=NOW)
    assert run(database, store, "parent")[0]["difference"] == "33.6"  # the stored totals say the same


def test_a_child_that_was_not_read_may_have_used_what_it_used_before(database: Database, store: SqliteStore) -> None:
    add_place(database, "TOP", customer_class="industrial", qmax=1000 * M)
    for point in ("A", "B"):
        add_place(database, point)
    before = START - 29 * DAY  # the period before February's, too
    for point, rate, hours in (("TOP", 300_000, 10_000), ("A", 100_000, 10_000), ("B", 100_000, 24 * 36)):
        count = min(hours, (END + 2 * DAY - (before - 5 * DAY)) // HOUR)
        deliver(database, store, readings(f"M-{point}", before - 5 * DAY, [n * rate for n in range(count)]))
    posted(
        database,
        SupplyLink,
        [
            {"parent_id": "TOP", "child_id": c, "from_at": 1000, "parent_class": "", "child_class": ""}
            for c in ("A", "B")
        ],
    )
    (one,) = run(database, store, "parent")
    assert (one["verdict"], one["cause"], one["facts"]["missing"]) == ("not_knowable", "children_missing", 1)
    assert one["facts"]["unknown"] == "6048"  # 672 h of what a G4 can pass: 6 m³/h and half of it more
    refresh(database, store, BILLING, "2026-02", now=NOW)
    (one,) = run(database, store, "parent")  # B used 0.1 m³/h the month before: 67.2 at most
    assert (one["verdict"], one["difference"], one["facts"]["unknown"]) == ("loss", "134.4", "67.2")


def test_a_shop_that_buys_nearly_every_day_is_settled_from_thousands_of_sums() -> None:
    rng = random.Random(1)
    days = [14 * DAY * number // 12 for number in range(40)]
    purchases = [(day + 1, rng.randrange(1 * M, 90 * M)) for day in days]
    span = reconcile_prepaid.Span("M", 20 * DAY, 38 * DAY, 0, 17)
    inside = [volume for at, volume in purchases if span.start < at <= span.end]
    late = [volume for at, volume in purchases if 6 * DAY < at <= span.start]
    nothing = reconcile_prepaid.balance(span, 12_345, purchases, SETTINGS, counters=(12_345, 12_345))
    # two of the last ones are in his pocket still, one from before came in late: used = bought - held + late - left
    used = sum(inside) - inside[-1] - inside[-3] + late[2] - 17
    found = reconcile_prepaid.balance(span, used, purchases, SETTINGS, counters=(used, used))
    assert (nothing.verdict, nothing.cause) == (reconcile_words.MISMATCH, "credit_short")
    assert (found.verdict, found.cause) == (reconcile_words.WAITING, "not_loaded_yet")
    assert found.difference == sum(inside[-1:]) + inside[-3] - late[2]
