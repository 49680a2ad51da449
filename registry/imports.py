"""Files of readings that people made: looked at first (a batch with counts and anomalies), posted later as a whole.

    stage ─► [checks] ─► previewed ──send_back──► … ──post──► posted        (dropped: nobody wanted it)

Staging writes in pieces, so that nobody else waits for a million rows, and nothing of it counts before `post`, which
is one transaction: the rows enter the office's queue together with the audit row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.clock import parse_rfc3339
from metering.quantities import QUANTITIES, to_micro
from registry import audit, tabular
from registry.book_changes import BookError
from registry.database import Database
from registry.import_checks import HOUSEHOLD_GAS, Limits, judge_chunk, mark_twice
from registry.many import among, insert_rows
from registry.models import Installation, Meter, UsagePoint
from registry.models_books import ImportBatch, ImportRow, OfficeRow
from registry.office import check_values
from registry.roles import Actor

Kind = Literal["readings", "exchanges", "purchases", "scada", "parents"]
COLUMNS: Final = (
    *("usage_point", "account_number", "address", "meter", "serial", "last_index", "last_read_at", "reading_day"),
    *("index", "read_at", "person", "note", *QUANTITIES),
)
"""Of a file of readings: those of the list that `export readings-list` writes, and further quantities."""
_QUANTITIES: Final = frozenset(QUANTITIES)
_CHUNK: Final = 5000
_ROW: Final = ImportRow.__table__


@dataclass(frozen=True, slots=True)
class Preview:
    """What a file holds. counts: verdict -> rows. expected, delivered: meters that were to be read, and are there."""

    batch: int
    kind: str
    state: str
    counts: dict[str, int]
    reasons: dict[str, int]
    expected: int
    delivered: int


def preview_readings(
    database: Database,
    actor: Actor,
    file: Path,
    *,
    now: int,
    name: str = "",
    limits: Limits | None = None,
    district: str | None = None,
) -> Preview:
    """Look at a file of readings and keep what was seen as a batch. district: whose meters were to be read.

    Raises: ValueError when the file cannot be used at all; RegistryError when it was posted before.
    """
    batch = open_batch(database, actor, "readings", file, name or file.name, now)
    try:
        rows = tabular.read_rows(file, COLUMNS, ("index", "read_at"))
        while chunk := list(islice(rows, _CHUNK)):
            with database.begin() as connection:
                staged = _stage(connection, batch, chunk, now, actor, HOUSEHOLD_GAS if limits is None else limits)
                for row in staged:
                    row["values"] = json.dumps(row["values"])
                insert_rows(connection, ImportRow, staged)
        mark_twice(database, batch)
    except BaseException:
        drop(database, batch)
        raise
    with database.begin() as connection:
        return close_preview(connection, batch, *_expected(connection, batch, district))


def open_batch(database: Database, actor: Actor, kind: Kind, file: Path, name: str, now: int) -> int:
    """Begin a batch that nobody sees yet. Raises: BookError when the same file was posted and stands."""
    digest = tabular.digest_of(file)
    with database.begin() as connection:
        same = sa.select(ImportBatch.id).where(ImportBatch.digest == digest, ImportBatch.state == "posted")
        known = connection.execute(same).scalars().first()
        if known is not None:
            raise BookError(f"this very file was posted as batch {known}")
        values = {"kind": kind, "file": name[:255], "digest": digest, "state": "staging", "made_at": now,
                  "made_by": actor.name[:80], "summary": {}}  # fmt: skip
        return int(connection.execute(sa.insert(ImportBatch).values(values).returning(ImportBatch.id)).scalar_one())


def drop(database: Database, batch: int) -> None:
    """Forget the rows of a batch that was not posted."""
    with database.begin() as connection:
        undecided = ImportBatch.state.in_(("staging", "previewed"))
        done = connection.execute(
            sa.update(ImportBatch).where(ImportBatch.id == batch, undecided).values(state="dropped")
        )
        if done.rowcount:
            connection.execute(sa.delete(ImportRow).where(ImportRow.batch_id == batch))


def close_preview(connection: Connection, batch: int, expected: int, delivered: int) -> Preview:
    """Make a staged batch visible at once."""
    summary = {"expected": expected, "delivered": delivered}
    here = ImportBatch.id == batch
    connection.execute(sa.update(ImportBatch).where(here).values(state="previewed", summary=summary))
    return preview_of(connection, batch)


def preview_of(connection: Connection, batch: int) -> Preview:
    """Return how a batch stands now. Raises: BookError."""
    row = batch_row(connection, batch)
    count = sa.func.count()
    verdicts = sa.select(_ROW.c.verdict, count).where(_ROW.c.batch_id == batch).group_by(_ROW.c.verdict)
    why = sa.select(_ROW.c.reason, count).where(_ROW.c.batch_id == batch, _ROW.c.reason != "").group_by(_ROW.c.reason)
    counts = {word: int(number) for word, number in connection.execute(verdicts)}
    reasons = {word: int(number) for word, number in connection.execute(why)}
    summary = row["summary"]
    return Preview(
        batch, row["kind"], row["state"], counts, reasons, summary.get("expected", 0), summary.get("delivered", 0)
    )


def batch_row(connection: Connection, batch: int) -> Any:
    """Return a batch. Raises: BookError."""
    row = connection.execute(sa.select(ImportBatch.__table__).where(ImportBatch.id == batch)).mappings().first()
    if row is None or row["state"] == "staging":
        raise BookError(f"there is no import batch {batch}")
    return row


def problems(connection: Connection, batch: int, *verdicts: str, after: int = 0) -> Iterator[Any]:
    """Yield the rows of these verdicts in the order of the file, behind line `after`, for a file or a page."""
    while True:
        statement = (
            sa.select(_ROW)
            .where(_ROW.c.batch_id == batch, _ROW.c.verdict.in_(verdicts), _ROW.c.line > after)
            .order_by(_ROW.c.line)
            .limit(_CHUNK)
        )
        page = connection.execute(statement).all()
        yield from page
        if len(page) < _CHUNK:
            return
        after = page[-1].line


def send_back(connection: Connection, actor: Actor, batch: int, meters: Sequence[str], *, now: int) -> int:
    """Have single meters read again: their rows are not posted. Return how many rows that were."""
    if batch_row(connection, batch)["state"] != "previewed":
        raise BookError(f"batch {batch} is decided already")
    here = (_ROW.c.batch_id == batch, _ROW.c.meter.in_(list(meters)), _ROW.c.verdict.in_(("ok", "doubt")))
    done = connection.execute(sa.update(ImportRow).where(*here).values(verdict="reread"))
    after = {"meters": sorted(meters)[:100], "rows": done.rowcount}
    audit.append(connection, actor, "import.send_back", "import_batch", batch, at=now, after=after)
    return int(done.rowcount)


def post_readings(
    connection: Connection,
    actor: Actor,
    batch: int,
    *,
    now: int,
    accept_doubtful: bool = False,
    leave_bad: bool = False,
    note: str = "",
) -> int:
    """Put all rows of a previewed batch into the office's queue; when this transaction commits they are safe.

    Return how many. Raises: BookError while doubtful rows are neither accepted nor sent back, or bad rows are not
    knowingly left out.
    """
    audit.lock(connection)
    preview = check_postable(connection, batch, "readings", accept_doubtful=accept_doubtful, leave_bad=leave_bad)
    doubt = _ROW.c.verdict == "doubt"
    columns = {
        "meter": _ROW.c.meter,
        "read_at": _ROW.c.at,
        "values": _ROW.c["values"],
        "source": sa.literal("import"),
        "quality": sa.case((doubt, "manual"), else_="valid"),
        "reason": sa.case((doubt, sa.literal("accepted_") + _ROW.c.reason), else_=""),
        "person": _ROW.c.person,
        "note": sa.literal(note[:500]),
        "batch_id": _ROW.c.batch_id,
        "posted_at": sa.literal(now, sa.BigInteger()),
        "posted_by": sa.literal(actor.name[:80]),
        "state": sa.literal(0, sa.BigInteger()),
        "epoch": sa.literal(""),
    }
    wanted = sa.select(*columns.values()).where(_ROW.c.batch_id == batch, _ROW.c.verdict.in_(("ok", "doubt")))
    connection.execute(sa.insert(OfficeRow).from_select(list(columns), wanted.order_by(_ROW.c.line)))
    count = preview.counts.get("ok", 0) + preview.counts.get("doubt", 0)
    decide(connection, actor, batch, "posted", now, after={"rows": count, **preview.counts}, note=note)
    return count


def check_postable(
    connection: Connection, batch: int, kind: Kind, *, accept_doubtful: bool, leave_bad: bool
) -> Preview:
    """Raises: BookError with what stands in the way."""
    preview = preview_of(connection, batch)
    if preview.kind != kind:
        raise BookError(f"batch {batch} holds {preview.kind}, not {kind}")
    if preview.state != "previewed":
        raise BookError(f"batch {batch} is {preview.state} already")
    if preview.counts.get("doubt") and not accept_doubtful:
        raise BookError(f"{preview.counts['doubt']} rows are doubtful: accept them, or send their meters back")
    if preview.counts.get("bad") and not leave_bad:
        raise BookError(f"{preview.counts['bad']} rows cannot be used: correct the file, or leave them out knowingly")
    return preview


def decide(
    connection: Connection, actor: Actor, batch: int, state: str, now: int, *, after: Mapping[str, Any], note: str
) -> None:
    """Give a batch its state, audited."""
    row = batch_row(connection, batch)
    values = {"state": state, "decided_at": now, "decided_by": actor.name[:80]}
    connection.execute(sa.update(ImportBatch).where(ImportBatch.id == batch).values(values))
    facts = {"kind": row["kind"], "file": row["file"], "sha256": row["digest"], **after}
    action = {"posted": "import.post", "reversed": "import.reverse"}[state]
    audit.append(connection, actor, action, "import_batch", batch, at=now, after=facts, note=note)


# --- rows ---------------------------------------------------------------------------------------------------------


def _stage(
    connection: Connection, batch: int, chunk: Sequence[tabular.Row], now: int, actor: Actor, limits: Limits
) -> list[dict[str, Any]]:
    """Return the rows to keep of some lines, each with its verdict; the books are asked once for all of them."""
    rows: list[dict[str, Any]] = []
    of_line: dict[int, Any] = {}
    meters = _meters(connection, {row.get("meter", "") for _, row in chunk})
    by_point = _meters_at(connection, {row.get("usage_point", "") for _, row in chunk if "meter" not in row})
    for line, cells in chunk:
        if any(cell[0] == "'" for cell in cells.values()):  # a list that we wrote comes back filled in
            cells = {name: tabular.active(cell) for name, cell in cells.items()}
        if "index" not in cells and "read_at" not in cells and "" not in cells:
            continue  # a line of the list that nobody filled in: that meter was not delivered
        row = blank(batch, line, cells)
        row["person"] = cells.get("person", actor.name)[:80]
        try:
            meter = of_line[line] = _meter_of(cells, meters, by_point)
            row["meter"], row["usage_point"] = meter.id, meter.usage_point or ""
            row["at"] = moment(cells.get("read_at", ""), meter.tz or "UTC")
            row["values"] = _values(cells, meter)
            if row["at"] > now:
                raise ValueError(f'read_at = "{cells["read_at"]}" is in the future')
            if not row["person"].isprintable() or not cells.get("note", "").isprintable():
                raise ValueError("person or note holds a control character")
        except (ValueError, BookError) as error:
            row["verdict"], row["reason"], row["detail"] = "bad", "not_usable", str(error)[:500]
        rows.append(row)
    judge_chunk(connection, rows, of_line, limits)
    return rows


def blank(batch: int, line: int, cells: Mapping[str, str]) -> dict[str, Any]:
    """Return a staged row that nothing speaks against yet."""
    meter, point = (shown(cells.get(name, "")) for name in ("meter", "usage_point"))
    return {"batch_id": batch, "line": line, "usage_point": point, "meter": meter, "at": None, "values": {},
            "person": "", "verdict": "ok", "reason": "", "detail": ""}  # fmt: skip


def shown(text: str) -> str:
    """Return a cell as it may stand in a message or a file."""
    own = tabular.active(text)
    if not own.isprintable():
        own = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in own)
    return own[:64]


def _meters(connection: Connection, ids: set[str]) -> dict[str, _Facts]:
    wanted = {tabular.active(name) for name in ids if name}
    return {row.id: row for row in _facts(connection, among(connection, Meter.id, wanted))} if wanted else {}


def _meters_at(connection: Connection, points: set[str]) -> dict[str, list[_Facts]]:
    wanted = {tabular.active(name) for name in points if name}
    found: dict[str, list[_Facts]] = {}
    for row in _facts(connection, among(connection, UsagePoint.id, wanted)) if wanted else ():
        found.setdefault(str(row.usage_point), []).append(row)
    return found


class _Facts(NamedTuple):
    """A meter, and where it hangs now."""

    id: str
    quantity: str
    index_digits: int | None
    resolution: int | None
    qmax: int | None
    usage_point: str | None
    tz: str | None
    customer_class: str | None
    medium: str | None


def _facts(connection: Connection, where: Any) -> list[_Facts]:
    here = sa.and_(Installation.meter_id == Meter.id, Installation.removed_at.is_(None))
    meter = (Meter.id, Meter.quantity, Meter.index_digits, Meter.resolution, Meter.qmax)
    statement = (
        sa.select(
            *meter, UsagePoint.id.label("usage_point"), UsagePoint.tz, UsagePoint.customer_class, UsagePoint.medium
        )
        .select_from(Meter)
        .outerjoin(Installation, here)
        .outerjoin(UsagePoint, UsagePoint.id == Installation.usage_point_id)
        .where(where)
    )
    return [_Facts(*row) for row in connection.execute(statement).all()]


def _meter_of(cells: Mapping[str, str], meters: Mapping[str, _Facts], by_point: Mapping[str, list[_Facts]]) -> _Facts:
    if "" in cells:
        raise ValueError(cells[""])
    if "meter" in cells:
        meter = meters.get(tabular.active(cells["meter"]))
        if meter is None:
            raise ValueError(f'meter = "{shown(cells["meter"])}": no such meter in the books')
        point = tabular.active(cells.get("usage_point", ""))
        if point and meter.usage_point not in (None, point):
            raise ValueError(f"meter {meter.id} hangs at {meter.usage_point}, not at {shown(point)}")
        return meter
    found = by_point.get(tabular.active(cells.get("usage_point", "")), [])
    if len(found) != 1:
        raise ValueError(f"usage_point has {len(found)} meters now: name the meter")
    return found[0]


@lru_cache(maxsize=50_000)
def moment(text: str, zone: str, name: str = "read_at") -> int:
    """Return [ms UTC] of a time as people write it: with offset, or local with or without the time of day.

    Raises: ValueError, also for a local time that the clocks skip.
    """
    if not text:
        raise ValueError(f"{name} is missing")
    try:
        stamp = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise ValueError(
            f'{name} = "{shown(text)}": write 2026-03-20, 2026-03-20 14:30 or a time with offset'
        ) from None
    if stamp.tzinfo is not None:
        return parse_rfc3339(stamp.isoformat())
    local = stamp.replace(tzinfo=ZoneInfo(zone))
    at = round(local.timestamp() * 1000)
    if datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).replace(tzinfo=None) != stamp:
        raise ValueError(f'{name} = "{text}": the clocks of {zone} skip this time')
    return at


def _values(cells: Mapping[str, str], meter: _Facts) -> dict[str, int]:
    if not cells.get("index"):
        raise ValueError("index is missing; a meter that could not be read is left out of the file")
    values = {str(meter.quantity): to_micro(cells["index"])}
    for name in cells.keys() & _QUANTITIES:
        values[name] = to_micro(cells[name])
    check_values({"id": meter.id, "index_digits": meter.index_digits}, values)
    return values


def _expected(connection: Connection, batch: int, district: str | None) -> tuple[int, int]:
    """Meters that hang somewhere and no gateway reads, and how many of them the file brings."""
    base = (
        sa.select(sa.func.count(Meter.id.distinct()))
        .join(Installation, sa.and_(Installation.meter_id == Meter.id, Installation.removed_at.is_(None)))
        .join(UsagePoint, UsagePoint.id == Installation.usage_point_id)
        .where(Meter.gateway_id.is_(None), Meter.state == "in_service")
    )
    if district is not None:
        base = base.where(UsagePoint.district == district)
    usable = sa.and_(_ROW.c.batch_id == batch, _ROW.c.meter == Meter.id, _ROW.c.verdict != "bad")
    there = base.where(sa.exists().where(usable))
    return int(connection.execute(base).scalar_one()), int(connection.execute(there).scalar_one())
