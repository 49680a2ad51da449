"""Billing of the small utility: February of UP-1, closed with 12.5 m³, a delta, a correction; UP-3 is open."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.engine import Connection

from api.billing.lists import Filters, by_place
from registry import billing as books
from registry import billing_close, billing_words
from registry.models_billing import BillingTotal
from registry.roles import Actor, Role

PERIOD: Final = "2026-02"
START: Final = 1_768_867_200_000  # 2026-01-20T00:00:00Z
END: Final = 1_771_545_600_000  # 2026-02-20T00:00:00Z
CLERK: Final = Actor("user:clerk", frozenset({Role.BILLING}), areas=None)
_TEXTS: Final = ("cause", "detail", "shown", "method", "digest", "opening_quality", "closing_quality")
HOUR: Final = 3_600_000


def total(point: str, **more: Any) -> dict[str, Any]:
    """A row of billing_total."""
    row: dict[str, Any] = {column.name: None for column in BillingTotal.__table__.columns if column.name != "id"}
    row |= dict.fromkeys(_TEXTS, "")
    row |= {"usage_point_id": point, "period": PERIOD, "start_at": START, "end_at": END, "state": "billed"}
    row |= {"account_number": f"A-{point}", "customer_class": "", "medium": "gas", "district": "north"}
    row |= {"quantity": "volume_standard", "edited": False, "computed_at": END + HOUR, "version": 1}
    return row | more


def line(point: str, meter: str, **more: Any) -> dict[str, Any]:
    """A row of billing_line."""
    row = {"usage_point_id": point, "period": PERIOD, "number": 1, "kind": "meter", "meter_id": meter}
    row |= {"customer": f"A-{point}", "opening_index": 987_500_000, "closing_index": 1_000_000_000}
    row |= {"opening_at": START, "closing_at": END - HOUR, "opening_quality": "valid", "closing_quality": "valid"}
    row |= {"rollovers": 0, "consumption": 12_500_000, "reverse": 0, "energy": None}
    return row | more


def ends(**more: Any) -> dict[str, Any]:
    """The ends of a billed total."""
    row: dict[str, Any] = {"opening_index": 987_500_000, "opening_at": START, "opening_quality": "valid"}
    row |= {"closing_index": 1_000_000_000, "closing_at": END - HOUR, "closing_quality": "valid"}
    row |= {"consumption": 12_500_000, "forward": 12_500_000, "reverse": 0, "year_to_date": 12_500_000}
    return row | more


def fill(connection: Connection, now: int) -> None:
    """Write by the functions that billing uses."""
    first = total("UP-1", **ends(), version=books.next_version(connection))
    books.save_totals(connection, [first], [line("UP-1", "G-0001")])
    billing_close.freeze(connection, CLERK, PERIOD, {}, now=now - HOUR, note="")
    late = {"usage_point_id": "UP-1", "period": PERIOD, "in_period": "2026-03", "kind": "adjustment"}
    late |= {"quantity": "volume_standard", "cause": "meter_test", "account": "the meter ran fast"}
    change = {**late, "before": 12_500_000, "after": 12_000_000, "amount": -500_000}
    billing_words.propose(connection, CLERK, change, needs=["admin"], now=now - HOUR)
    facts: dict[str, Any] = {"meter": "G-0001", "read_at": END - HOUR, "quantity": "volume_standard"}
    billing_words.correct(
        connection, CLERK, **facts, was=1_000_000_000, becomes=999_500_000, reason="misread", now=now - HOUR
    )
    missing = {
        "state": "missing",
        "cause": "gateway_down",
        "detail": "gateway gw-2 was away",
        "medium": "electricity",
    }
    books.save_totals(connection, [total("UP-3", **missing, version=books.next_version(connection))], [])
    assert len(by_place(connection, None, Filters(period=PERIOD), limit=3)) == 2
