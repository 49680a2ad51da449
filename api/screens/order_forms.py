"""What people type into the forms of a work order: times of the city, notes, a receipt; faults as keys of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from api.orders.lifecycle import NEEDS_NOTE, Deed, Step
from api.orders.receipts import LABELS, Filing
from api.orders.words import Priority, Result
from api.parameters import clean
from metering.quantities import to_micro

Fields = Mapping[str, str]
LONGEST_NOTE: Final = 2000
MATERIALS: Final = 3
"""Rows for materials in the form of a receipt."""

_MINUTE: Final = 60_000
_MOST_INDEX: Final = 4 * 10**15


class FormError(Exception):
    """Something typed that cannot be taken. key: of the table `order_refused`; values: for its places."""

    def __init__(self, key: str, **values: str) -> None:
        super().__init__(key)
        self.key, self.values = key, values


@dataclass(frozen=True, slots=True)
class Again:
    """A form that was not taken: shown again with what was typed.

    deed: which form; said: sentence of the refusal, when it is not one of the texts.
    """

    deed: str
    typed: Fields
    key: str
    values: Mapping[str, str] = field(default_factory=dict)
    said: str = ""


def text_of(fields: Fields, name: str, longest: int = LONGEST_NOTE) -> str:
    """Return what was typed as one line. Raises: FormError for signs that cannot be kept."""
    text = " ".join(fields.get(name, "").split())
    try:
        clean(text)
    except ValueError:
        raise FormError("unclean") from None
    if len(text) > longest:
        raise FormError("too_long", most=str(longest))
    return text


def moment_of(fields: Fields, name: str, zone: Any) -> int | None:
    """Return a local time such as 2026-03-01T08:05 as [ms UTC], None when it was left out. Raises: FormError."""
    text = fields.get(name, "").strip()
    if not text:
        return None
    try:
        local = datetime.strptime(text[:16], "%Y-%m-%dT%H:%M")  # noqa: DTZ007 (the zone is given in the next line)
        return int(local.replace(tzinfo=zone).astimezone(UTC).timestamp()) * 1000
    except (ValueError, OverflowError):
        raise FormError("time", name=name) from None


def step_of(deed: Deed, fields: Fields, zone: Any) -> Step:
    """Return the step that a form asks for. Raises: FormError."""
    note = text_of(fields, "note")
    if deed in NEEDS_NOTE and not note:
        raise FormError("note")
    assignee = text_of(fields, "assignee", 64)
    if deed is Deed.DISPATCH and not assignee:
        raise FormError("assignee")
    appointment = moment_of(fields, "appointment_at", zone) if deed is Deed.EXTEND else None
    if deed is Deed.EXTEND and appointment is None:
        raise FormError("appointment")
    return Step(
        deed,
        note=note,
        assignee=assignee,
        appointment_at=appointment,
        not_reached=fields.get("not_reached") == "true",
        priority=priority_of(fields) if deed is Deed.ACCEPT else None,
    )


def priority_of(fields: Fields) -> Priority:
    """Return the chosen priority. Raises: FormError."""
    try:
        return Priority(fields.get("priority", ""))
    except ValueError:
        raise FormError("priority") from None


def filing_of(
    fields: Fields, *, worker: str, quantity: str, accepted_at: int | None, now_ms: int, zone: Any
) -> Filing:
    """Return the receipt that was typed. worker: who was there; quantity: of the meter's index. Raises: FormError."""
    try:
        result = Result(fields.get("result", ""))
    except ValueError:
        raise FormError("result") from None
    note = text_of(fields, "note")
    if result is not Result.PASSED and not note:
        raise FormError("result_note")
    label = fields.get("label", "")
    if label not in (*LABELS, ""):
        raise FormError("label")
    times = _times(fields, zone, accepted_at, now_ms)
    return Filing(
        worker=worker,
        result=result,
        note=note,
        label=label,
        index_seen=_index(fields, quantity),
        materials=_materials(fields),
        amount=_amount(fields),
        not_reached=fields.get("not_reached") == "true",
        **times,
    )


def _times(fields: Fields, zone: Any, accepted_at: int | None, now_ms: int) -> dict[str, Any]:
    """Return arrival, start, finish, leaving. People type minutes: within one the order is as it should be."""
    arrived = moment_of(fields, "arrived_at", zone)
    if arrived is None:
        raise FormError("arrived")
    typed: list[tuple[str, int | None]] = [("arrived_at", arrived)]
    typed += [(name, moment_of(fields, name, zone)) for name in ("started_at", "finished_at", "left_at")]
    before, found = accepted_at, {}
    for name, when in typed:
        at = when
        if at is not None and before is not None and at < before:
            if before - at >= _MINUTE:
                raise FormError("order_of_times", name=name)
            at = before
        if at is not None and at > now_ms + 5 * _MINUTE:
            raise FormError("future", name=name)
        found[name] = at
        before = at if at is not None else before
    return found


def _index(fields: Fields, quantity: str) -> dict[str, int]:
    text = fields.get("index_seen", "").strip().replace(",", ".")
    if not text or not quantity:
        return {}
    try:
        micro = to_micro(text)
    except ValueError:
        raise FormError("index") from None
    if not 0 <= micro <= _MOST_INDEX:
        raise FormError("index")
    return {quantity: micro}


def _materials(fields: Fields) -> list[dict[str, Any]]:
    found = []
    for row in range(1, MATERIALS + 1):
        name, count = text_of(fields, f"material_{row}", 100), fields.get(f"count_{row}", "").strip()
        if not name and not count:
            continue
        if not name or not (count.isascii() and count.isdigit() and 0 < int(count[:7]) <= 100_000 and len(count) < 7):
            raise FormError("materials")
        found.append({"name": name, "count": int(count)})
    return found


def _amount(fields: Fields) -> str:
    text = fields.get("amount", "").strip()
    whole, dot, cents = text.partition(".")
    good = whole.isascii() and whole.isdigit() and len(whole) <= 9
    if text and not (good and (not dot or (cents.isascii() and cents.isdigit() and 1 <= len(cents) <= 2))):
        raise FormError("amount")
    return text
