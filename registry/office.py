"""The office's outbox: readings that people and files bring, durable in the transaction that audits them.

    post (waits, 0) ──service──► gateway.Outbox (1) ──mg/v1/…/office/up──► ingest ──ack──► acknowledged (2)

The table is the queue: a row that was taken over is taken over again when the outbox lost it before ingest
acknowledged it. Sending twice is safe, the key (meter, read_at) decides. Rows stay: they link the reading to
the person, the reason, the file or the quarantined row that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.admission import judge_values
from metering.clock import rfc3339
from metering.messages import OFFICE
from metering.quantities import COUNTERS, QUANTITIES, Quantity, from_micro
from metering.reading import Quality, Reading, Source
from registry import audit
from registry.book_changes import BookError, check_index, meter_row
from registry.models import Quarantine
from registry.models_books import OfficeRow
from registry.roles import Actor

WAITS: Final = 0
TAKEN: Final = 1
ACKNOWLEDGED: Final = 2
_ROW: Final = OfficeRow.__table__


@dataclass(frozen=True, slots=True)
class Fate:
    """Where a posted reading is: waiting, sent, stored, quarantined (with the reason of ingest)."""

    id: int
    state: str
    reason: str = ""
    detail: str = ""


def post_manual(
    connection: Connection,
    actor: Actor,
    meter: str,
    *,
    read_at: int,
    values: Mapping[str, int],
    person: str,
    now: int,
    reason: str = "manual",
    note: str = "",
) -> int:
    """Take a reading that a person made; when this transaction commits it is safe. Return its number.

    read_at: [ms UTC] when the value was true. values: quantity -> [10⁻⁶]. person: who read the meter. reason: a short
    code. Raises: BookError for what cannot be, and when this meter has another value for this moment already.
    """
    facts = meter_row(connection, meter)
    check_values(facts, values)
    if not 0 < read_at <= now:
        raise BookError(f"{rfc3339(max(0, read_at))} cannot be: a reading is entered after it was made", meter=meter)
    if not person.strip() or not person.isprintable():
        raise BookError("a manual reading names the person who made it", meter=meter)
    audit.lock(connection)
    same = check_same(connection, meter, read_at, values)
    if same is not None:
        return same  # said twice: a retry, or two people with one slip
    number = add(
        connection,
        [Reading(meter, read_at, dict(values), quality="manual", reason=reason[:64], source="manual")],  # type: ignore[arg-type]  # checked
        actor=actor,
        person=person,
        note=note,
        now=now,
    )
    said = {"read_at": rfc3339(read_at), "values": {q: from_micro(v) for q, v in values.items()}, "person": person}
    audit.append(connection, actor, "reading.post", "meter", meter, at=now, after={"row": number, **said}, note=note)
    return number


def check_values(meter: Mapping[str, Any], values: Mapping[Any, int]) -> None:
    """Raises: BookError for quantities nobody knows, and indexes the meter cannot show."""
    for quantity, micro in values.items():
        if quantity not in QUANTITIES:
            raise BookError(f"unknown quantity {quantity[:40]!r}", meter=meter["id"])
        if quantity in COUNTERS:
            check_index(micro, meter, quantity)
    verdict = judge_values(values)
    if verdict.decision != "admit":
        raise BookError(verdict.detail, meter=meter["id"])


def check_same(connection: Connection, meter: str, read_at: int, values: Mapping[Any, int]) -> int | None:
    """Return the row that says the very same already, None when there is none.

    Raises: BookError when the office has another value for this meter and moment.
    """
    statement = sa.select(_ROW.c.id, _ROW.c["values"]).where(_ROW.c.meter == meter, _ROW.c.read_at == read_at)
    same = None
    for number, known in connection.execute(statement).all():
        for quantity, micro in values.items():
            if known.get(quantity, micro) != micro:
                held = f"{quantity} = {from_micro(known[quantity])} at {rfc3339(read_at)}"
                raise BookError(f"meter {meter} has {held} already; a reading is never overwritten", meter=meter)
        same = number if known == dict(values) else same
    return same


def add(
    connection: Connection,
    readings: Sequence[Reading],
    *,
    actor: Actor,
    person: str,
    now: int,
    note: str = "",
    quarantine_id: int | None = None,
) -> int:
    """Put readings into the queue as they are and return the number of the last; the caller checks and audits."""
    number = 0
    for reading in readings:
        row = {
            "meter": reading.meter,
            "read_at": reading.read_at,
            "values": dict(reading.values),
            "source": reading.source,
            "quality": reading.quality,
            "reason": reading.reason,
            "person": person[:80],
            "note": note[:500],
            "quarantine_id": quarantine_id,
            "posted_at": now,
            "posted_by": actor.name[:80],
        }
        number = int(connection.execute(sa.insert(OfficeRow).values(row).returning(OfficeRow.id)).scalar_one())
    return number


# --- for the service ----------------------------------------------------------------------------------------------


def waiting(connection: Connection, limit: int) -> list[tuple[int, Reading]]:
    """Return (number, reading) of the first rows that wait, in the order in which they were posted."""
    statement = sa.select(_ROW).where(_ROW.c.state == WAITS).order_by(_ROW.c.id).limit(limit)
    return [(row["id"], _reading(row)) for row in connection.execute(statement).mappings()]


def _reading(row: Any) -> Reading:
    quality: Quality = row["quality"]
    source: Source = row["source"]
    values: dict[Quantity, int] = row["values"]
    return Reading(row["meter"], row["read_at"], values, quality=quality, reason=row["reason"], source=source)


def taken(connection: Connection, numbers: Sequence[int], epoch: str, first_seq: int) -> None:
    """Note that rows are committed in the outbox, under the numbers from `first_seq` on."""
    statement = (
        sa.update(OfficeRow)
        .where(_ROW.c.id == sa.bindparam("number"))
        .values(state=TAKEN, epoch=epoch, seq=sa.bindparam("place"))
    )
    places = [{"number": number, "place": seq} for seq, number in enumerate(numbers, first_seq)]
    if places:
        connection.execute(statement, places)


def held_back(connection: Connection) -> int:
    """Return how many rows are in the outbox and not acknowledged."""
    statement = sa.select(sa.func.count()).select_from(_ROW).where(_ROW.c.state == TAKEN)
    return int(connection.execute(statement).scalar_one())


def acknowledged(connection: Connection, epoch: str, below: int, now: int) -> int:
    """Note that ingest committed every row of this epoch below a seq; return how many were new."""
    done = connection.execute(
        sa.update(OfficeRow)
        .where(_ROW.c.state == TAKEN, _ROW.c.epoch == epoch, _ROW.c.seq < below)
        .values(state=ACKNOWLEDGED, acknowledged_at=now)
    )
    return int(done.rowcount)


def take_back(connection: Connection, epoch: str, spans: Iterable[tuple[int, int]], produced: int) -> int:
    """Let rows wait again that the outbox no longer knows: of another epoch, or above what it ever gave out.

    spans are what it holds; a row below `produced` that it does not hold was acknowledged.
    """
    unknown = sa.or_(_ROW.c.epoch != epoch, _ROW.c.seq > max([produced, *(high for _, high in spans)]))
    statement = sa.update(OfficeRow).where(_ROW.c.state == TAKEN, unknown).values(state=WAITS, epoch="", seq=None)
    return int(connection.execute(statement).rowcount)


def fates(connection: Connection, numbers: Sequence[int]) -> dict[int, Fate]:
    """Return where posted rows are; what ingest refused carries its reason."""
    refused = Quarantine.__table__
    same = sa.and_(refused.c.gateway == OFFICE, refused.c.epoch == _ROW.c.epoch, refused.c.seq == _ROW.c.seq)
    statement = (
        sa.select(_ROW.c.id, _ROW.c.state, refused.c.reason, refused.c.detail)
        .select_from(_ROW.outerjoin(refused, same))
        .where(_ROW.c.id.in_(numbers))
    )
    found = {}
    for number, state, reason, detail in connection.execute(statement):
        word = "quarantined" if reason else {WAITS: "waiting", TAKEN: "sent", ACKNOWLEDGED: "stored"}[state]
        found[number] = Fate(number, word, reason or "", detail or "")
    return found
