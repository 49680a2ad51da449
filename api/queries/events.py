"""Events and quarantine, newest arrival first."""

from __future__ import annotations

import base64
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.areas import Areas, gateway_seen, moment_seen
from api.paging import Page
from api.problems import not_found
from api.schemas import EventOut, QuarantineOut, RawOut
from metering.clock import rfc3339
from registry.models import EventRecord, Quarantine
from registry.models_books import QuarantineDecision

LIST_RAW_BYTES: Final = 256
ONE_RAW_BYTES: Final = 64 * 1024

_EVENT: Final = EventRecord.__table__
_REFUSED: Final = Quarantine.__table__


def _narrow(
    statement: sa.Select[Any],
    table: Any,
    when: str,
    equal: dict[str, str | None],
    t0: int | None,
    t1: int | None,
    before: int | None,
) -> sa.Select[Any]:
    """Add the filters that were given; t0 <= `when` < t1 [ms UTC]; before: the id behind which a page begins."""
    for name, value in equal.items():
        if value is not None:
            statement = statement.where(table.c[name] == value)
    if t0 is not None:
        statement = statement.where(table.c[when] >= t0)
    if t1 is not None:
        statement = statement.where(table.c[when] < t1)
    if before is not None:
        statement = statement.where(table.c.id < before)
    return statement.order_by(table.c.id.desc())


def _event_seen(areas: Areas) -> sa.ColumnElement[bool]:
    """Events of a meter go with the meter, all others with the gateway."""
    of_meter = sa.and_(_EVENT.c.meter != "", moment_seen(areas, _EVENT.c.meter, _EVENT.c.at))
    return sa.or_(of_meter, sa.and_(_EVENT.c.meter == "", gateway_seen(areas, _EVENT.c.gateway)))


def _refused_seen(areas: Areas) -> sa.ColumnElement[bool]:
    """Refused rows go with the meter that they name; a message that names none is for callers for all areas."""
    return moment_seen(areas, _REFUSED.c.meter, sa.func.coalesce(_REFUSED.c.read_at, _REFUSED.c.received_at))


def counts(connection: Connection, areas: Areas) -> tuple[int, int]:
    """Return how many events and how many refused rows a caller for `areas` may see."""
    events = sa.select(sa.func.count()).select_from(_EVENT)
    refused = sa.select(sa.func.count()).select_from(_REFUSED)
    if areas is not None:
        events, refused = events.where(_event_seen(areas)), refused.where(_refused_seen(areas))
    return connection.execute(events).scalar_one(), connection.execute(refused).scalar_one()


def list_events(
    connection: Connection,
    *,
    areas: Areas,
    limit: int,
    cursor: str | None = None,
    t0: int | None = None,
    t1: int | None = None,
    **equal: str | None,
) -> Page[EventOut]:
    """Return one page of events. equal: gateway, meter, kind, cause."""
    before = paging.number_key("events", cursor)
    statement = _narrow(sa.select(_EVENT), _EVENT, "at", equal, t0, t1, before).limit(limit + 1)
    if areas is not None:
        statement = statement.where(_event_seen(areas))
    rows = [
        EventOut(
            id=row["id"],
            gateway=row["gateway"],
            kind=row["kind"],
            at=rfc3339(row["at"]),
            received_at=rfc3339(row["received_at"]),
            meter=row["meter"],
            cause=row["cause"],
            count=row["count"],
            text=row["text"],
        )
        for row in connection.execute(statement).mappings()
    ]
    return paging.page_of(rows, limit, "events", lambda row: row.id)


def _refused_columns(raw_bytes: int) -> list[Any]:
    plain = [column for column in _REFUSED.c if column.name != "raw"]
    head = sa.func.substr(_REFUSED.c.raw, 1, raw_bytes, type_=sa.LargeBinary).label("head")
    return [*plain, head, sa.func.length(_REFUSED.c.raw).label("size")]


def list_quarantine(
    connection: Connection,
    *,
    areas: Areas,
    limit: int,
    cursor: str | None = None,
    t0: int | None = None,
    t1: int | None = None,
    undecided: bool = False,
    **equal: str | None,
) -> Page[QuarantineOut]:
    """Return one page of refused rows with the first bytes of each. equal: gateway, meter, reason.

    undecided: only those that nobody adopted or discarded.
    """
    before = paging.number_key("quarantine", cursor)
    statement = sa.select(*_refused_columns(LIST_RAW_BYTES))
    statement = _narrow(statement, _REFUSED, "received_at", equal, t0, t1, before).limit(limit + 1)
    if undecided:
        decided = sa.exists().where(QuarantineDecision.quarantine_id == _REFUSED.c.id)
        statement = statement.where(sa.not_(decided))
    if areas is not None:
        statement = statement.where(_refused_seen(areas))
    rows = [_refused(row) for row in connection.execute(statement).mappings()]
    return paging.page_of(rows, limit, "quarantine", lambda row: row.id)


def reasons(connection: Connection, areas: Areas, most: int = 50) -> list[str]:
    """Return why rows were refused that a caller for `areas` may see, by name."""
    found = sa.select(_REFUSED.c.reason).distinct().order_by(_REFUSED.c.reason).limit(most)
    if areas is not None:
        found = found.where(_refused_seen(areas))
    return list(connection.execute(found).scalars())


def one_quarantined(connection: Connection, number: int, *, areas: Areas) -> QuarantineOut:
    """Return one refused row with up to 64 KiB of its bytes. Raises: ProblemError 404."""
    statement = sa.select(*_refused_columns(ONE_RAW_BYTES)).where(_REFUSED.c.id == number, _refused_seen(areas))
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise not_found("quarantined row", number)
    return _refused(row)


def raw_quarantined(connection: Connection, number: int, *, areas: Areas) -> bytes:
    """Return all bytes of one refused row. Raises: ProblemError 404."""
    statement = sa.select(_REFUSED.c.raw).where(_REFUSED.c.id == number, _refused_seen(areas))
    raw = connection.execute(statement).scalar_one_or_none()
    if raw is None:
        raise not_found("quarantined row", number)
    return bytes(raw)


def _refused(row: Any) -> QuarantineOut:
    head = bytes(row["head"] or b"")
    raw = RawOut(
        size=row["size"],
        hex=head.hex(),
        base64=base64.b64encode(head).decode("ascii"),
        text=printable(head, cut=len(head) < row["size"]),
        truncated=len(head) < row["size"],
    )
    return QuarantineOut(
        id=row["id"],
        gateway=row["gateway"],
        epoch=row["epoch"],
        seq=row["seq"],
        meter=row["meter"],
        read_at=words.moment(row["read_at"]),
        received_at=rfc3339(row["received_at"]),
        reason=row["reason"],
        detail=row["detail"],
        digest=row["digest"],
        raw=raw,
    )


def printable(raw: bytes, *, cut: bool = False) -> str | None:
    """Return bytes as text when they are UTF-8 without control characters (tab and line ends may stand), else None.

    cut: the last character may be incomplete and is then left out.
    """
    for end in range(len(raw), max(len(raw) - 4, -1) if cut else len(raw) - 1, -1):
        try:
            text = raw[:end].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return text if all(c.isprintable() or c in "\t\r\n" for c in text) else None
    return None
