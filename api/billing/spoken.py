"""Stored rows of billing in the words of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.billing.lists import Row
from api.schemas_billing import ApprovalOut, BoundaryOut, CloseOut, DecisionOut, DeltaOut, LineOut, TotalOut
from metering.clock import rfc3339
from metering.quantities import UNITS, from_micro

_SAME = (
    *("period", "account_number", "customer_class", "medium", "district", "state", "cause", "detail", "quantity"),
    *("edited", "method", "version"),
)
_VOLUMES = ("consumption", "forward", "reverse", "volume_actual", "volume_standard", "energy", "year_to_date")


def total_out(row: Row) -> TotalOut:
    """Return a total as it leaves the house."""
    total = row.total
    facts: dict[str, Any] = {name: total[name] for name in _SAME}
    facts |= {name: amount(total[name]) for name in _VOLUMES}
    return TotalOut.model_construct(
        **facts,
        usage_point=total["usage_point_id"],
        shown=total["shown"].split(",") if total["shown"] else [],
        unit=UNITS.get(total["quantity"], ""),
        from_at=rfc3339(total["start_at"]),
        to_at=rfc3339(total["end_at"]),
        opening=None if total["opening_at"] is None else _end(total, "opening"),
        closing=None if total["closing_at"] is None else _end(total, "closing"),
        closed=total["close_id"] is not None,
        close=total["close_id"],
        computed_at=rfc3339(total["computed_at"]),
        lines=[_line(line) for line in row.lines],
    )


def amount(micro: int | None) -> str | None:
    """Return a decimal text, None for nothing."""
    return None if micro is None else from_micro(micro)


def _end(row: Mapping[str, Any], end: str) -> BoundaryOut:
    return BoundaryOut.model_construct(
        index=from_micro(row[f"{end}_index"]), read_at=rfc3339(row[f"{end}_at"]), quality=row[f"{end}_quality"]
    )


def _line(line: Mapping[str, Any]) -> LineOut:
    return LineOut.model_construct(
        kind=line["kind"],
        meter=line["meter_id"],
        customer=line["customer"],
        opening=_end(line, "opening"),
        closing=_end(line, "closing"),
        rollovers=line["rollovers"],
        consumption=from_micro(line["consumption"]),
        reverse=from_micro(line["reverse"]),
        energy=amount(line["energy"]),
    )


def decision_out(row: Mapping[str, Any]) -> DecisionOut:
    """Return a clerk's decision."""
    same = {name: row[name] for name in ("kind", "cause", "note", "actor")}
    return DecisionOut(**same, consumption=amount(row["consumption"]), at=rfc3339(row["at"]))


def delta_out(row: Mapping[str, Any], approvals: Sequence[Mapping[str, Any]]) -> DeltaOut:
    """Return a delta with who said what on it."""
    needs = row["needs"].split(",")
    spoken = {approval["capacity"] for approval in approvals}
    same = ("id", "period", "in_period", "kind", "quantity", "cause", "account", "state", "proposed_by", "version")
    return DeltaOut(
        **{name: row[name] for name in same},
        usage_point=row["usage_point_id"],
        before=amount(row["before"]),
        after=amount(row["after"]),
        amount=from_micro(row["amount"]),
        proposed_at=rfc3339(row["proposed_at"]),
        needs=needs,
        waits_for=[need for need in needs if need not in spoken] if row["state"] == "proposed" else [],
        approvals=[
            ApprovalOut(**{k: a[k] for k in ("capacity", "word", "actor", "note")}, at=rfc3339(a["at"]))
            for a in approvals
        ],
    )


def close_out(row: Mapping[str, Any]) -> CloseOut:
    """Return a close."""
    return CloseOut(**{**row, "closed_at": rfc3339(row["closed_at"])})
