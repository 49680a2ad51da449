"""Decisions on quarantined rows: adopt one (as a new row of the office) or discard it. The row stays as it is."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.admission import TimeLimits, judge
from metering.messages import OFFICE
from metering.reading import Reading
from registry import audit, office
from registry.book_changes import BookError
from registry.models import Meter, Quarantine
from registry.models_books import QuarantineDecision
from registry.roles import Actor

_NEVER: Final = {
    "conflict": "the store holds another value for this moment, and a stored value is never overwritten",
    "store_refused": "the store cannot keep it",
}
_DECODER: Final = msgspec.json.Decoder(Reading)


def adopt(
    connection: Connection, actor: Actor, number: int, *, reason: str, now: int, limits: TimeLimits | None = None
) -> int:
    """Send a quarantined reading on its way as one of the office, marked suspect; return its office row.

    reason: why it is believed, in words. Raises: BookError when it is no reading, cannot be stored, speaks of a
    meter that the books do not know, or was decided before.
    """
    _need_reason(reason)
    audit.lock(connection)
    row = _undecided(connection, number)
    if row["reason"] in _NEVER:
        raise BookError(f"row {number} cannot be adopted: {_NEVER[row['reason']]}")
    reading = _reading(row)
    known = connection.execute(sa.select(Meter.id).where(Meter.id == reading.meter)).first() is not None
    verdict = judge(reading, owner=OFFICE if known else None, gateway=OFFICE, now=now, limits=limits or TimeLimits())
    if verdict.decision == "quarantine":
        raise BookError(f"row {number} cannot be adopted: {verdict.detail}")
    office.check_same(connection, reading.meter, reading.read_at, reading.values)
    quality = "suspect" if reading.quality == "valid" else reading.quality
    adopted = msgspec.structs.replace(
        reading, quality=quality, reason=f"adopted_{row['reason']}"[:64], received_at=None
    )
    posted = office.add(
        connection, [adopted], actor=actor, person=actor.name, note=reason, now=now, quarantine_id=number
    )
    _decide(connection, actor, number, "adopted", reason, now, posted)
    return posted


def discard(connection: Connection, actor: Actor, number: int, *, reason: str, now: int) -> None:
    """Say that a quarantined row is of no use; it stays where it is. Raises: BookError."""
    _need_reason(reason)
    audit.lock(connection)
    _undecided(connection, number)
    _decide(connection, actor, number, "discarded", reason, now, None)


def decisions(connection: Connection, numbers: list[int]) -> dict[int, dict[str, Any]]:
    """Return what was decided on these rows."""
    table = QuarantineDecision.__table__
    rows = connection.execute(sa.select(table).where(table.c.quarantine_id.in_(numbers))).mappings()
    return {row["quarantine_id"]: dict(row) for row in rows}


def meter_of(connection: Connection, number: int) -> str:
    """Return the meter that a quarantined row speaks of, "" when nobody knows. Raises: BookError."""
    return str(_row(connection, number)["meter"])


def _need_reason(reason: str) -> None:
    if not reason.strip() or not reason.isprintable():
        raise BookError("a decision on a quarantined row needs a reason in words")


def _row(connection: Connection, number: int) -> Any:
    row = connection.execute(sa.select(Quarantine.__table__).where(Quarantine.id == number)).mappings().first()
    if row is None:
        raise BookError(f"there is no quarantined row {number}")
    return row


def _undecided(connection: Connection, number: int) -> Any:
    row = _row(connection, number)
    before = decisions(connection, [number]).get(number)
    if before is not None:
        raise BookError(f"row {number} was {before['decision']} by {before['decided_by']} already")
    return row


def _reading(row: Any) -> Reading:
    try:
        return _DECODER.decode(bytes(row["raw"]))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BookError(f"row {row['id']} cannot be adopted: it is no reading ({error})") from None


def _decide(
    connection: Connection, actor: Actor, number: int, decision: str, reason: str, now: int, posted: int | None
) -> None:
    values = {
        "quarantine_id": number,
        "decision": decision,
        "decided_at": now,
        "decided_by": actor.name[:80],
        "note": reason[:500],
        "office_row_id": posted,
    }
    connection.execute(sa.insert(QuarantineDecision).values(values))
    verb = {"adopted": "adopt", "discarded": "discard"}[decision]
    after = {"office_row": posted} if posted is not None else None
    audit.append(connection, actor, f"quarantine.{verb}", "quarantine", number, at=now, after=after, note=reason)
