"""A computed total in the form of the registry's tables, and in the form that leaves the house."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.billing.compute import Total
from api.billing.totals import Line
from metering.clock import rfc3339
from metering.quantities import UNITS, from_micro

_VOLUMES = ("consumption", "forward", "reverse", "volume_actual", "volume_standard", "energy", "year_to_date")


def total_row(total: Total, *, now: int, version: int) -> dict[str, Any]:
    """Return the row of `billing_total`, open and not yet frozen."""
    place, outcome = total.place, total.outcome
    opening = outcome.lines[0].opening.sample if outcome.lines else None
    closing = outcome.lines[-1].closing.sample if outcome.lines else None
    back = outcome.reverse + outcome.companions.get("volume_reverse", 0)
    stay = place.point.stays[-1] if place.point.stays else None
    account = place.point.changes[-1].account if place.point.changes else place.point.account
    return {
        "usage_point_id": place.point.id,
        "period": place.bounds.period,
        "account_number": account,
        "customer_class": place.customer_class,
        "medium": place.medium,
        "district": place.district,
        "start_at": place.bounds.start,
        "end_at": place.bounds.end,
        "state": outcome.state,
        "cause": outcome.cause,
        "detail": outcome.detail[:500],
        "shown": total.shown[:48],
        "quantity": stay.quantity if stay else "",
        "consumption": outcome.consumption,
        "forward": outcome.forward,
        "reverse": None if outcome.consumption is None else back,
        "volume_actual": outcome.companions.get("volume_actual"),
        "volume_standard": outcome.companions.get("volume_standard"),
        "energy": outcome.energy,
        "year_to_date": total.year_to_date,
        "opening_index": opening.index if opening else None,
        "opening_at": opening.at if opening else None,
        "opening_quality": opening.quality if opening else "",
        "closing_index": closing.index if closing else None,
        "closing_at": closing.at if closing else None,
        "closing_quality": closing.quality if closing else "",
        "edited": outcome.edited,
        "method": outcome.method,
        "computed_at": now,
        "version": version,
        "close_id": None,
        "digest": "",
    }


def line_rows(total: Total) -> list[dict[str, Any]]:
    """Return the rows of `billing_line`."""
    return [_line_row(total, number, line) for number, line in enumerate(total.outcome.lines, 1)]


def _line_row(total: Total, number: int, line: Line) -> dict[str, Any]:
    opening, closing = line.opening.sample, line.closing.sample
    return {
        "usage_point_id": total.place.point.id,
        "period": total.place.bounds.period,
        "number": number,
        "kind": line.kind,
        "meter_id": line.meter,
        "customer": line.customer,
        "opening_index": opening.index,
        "opening_at": opening.at,
        "opening_quality": opening.quality,
        "closing_index": closing.index,
        "closing_at": closing.at,
        "closing_quality": closing.quality,
        "rollovers": line.rollovers,
        "consumption": line.consumption,
        "reverse": line.reverse,
        "energy": line.energy,
    }


def spoken(row: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a total as it leaves the house: decimal texts, RFC 3339, absent instead of null."""
    out: dict[str, Any] = {
        name: row[name] for name in ("usage_point_id", "period", "account_number", "customer_class", "medium")
    }
    out |= {name: row[name] for name in ("district", "state", "cause", "detail", "quantity") if row[name]}
    if row["shown"]:
        out["shown"] = row["shown"].split(",")
    unit = UNITS.get(row["quantity"])
    if unit:
        out["unit"] = unit
    out |= {"from": rfc3339(row["start_at"]), "to": rfc3339(row["end_at"])}
    out |= {name: from_micro(row[name]) for name in _VOLUMES if row[name] is not None}
    for end in ("opening", "closing"):
        if row[f"{end}_at"] is not None:
            out[end] = _end(row, end)
    out |= {name: row[name] for name in ("edited", "method") if row[name]}
    if lines:
        out["lines"] = [_spoken_line(line) for line in lines]
    return out


def _end(row: Mapping[str, Any], end: str) -> dict[str, str]:
    return {
        "index": from_micro(row[f"{end}_index"]),
        "read_at": rfc3339(row[f"{end}_at"]),
        "quality": row[f"{end}_quality"],
    }


def _spoken_line(line: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": line["kind"], "meter": line["meter_id"], "customer": line["customer"]}
    out |= {"opening": _end(line, "opening"), "closing": _end(line, "closing")}
    out |= {"consumption": from_micro(line["consumption"]), "reverse": from_micro(line["reverse"])}
    out["rollovers"] = line["rollovers"]
    if line["energy"] is not None:
        out["energy"] = from_micro(line["energy"])
    return out
