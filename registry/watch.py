"""How anomaly services follow ingest, share the city and remember: plain functions on a connection.

- Ingest notes in `touched` which meters got readings, in the transaction that accounts for them. So nobody who reads
  the log misses a reading, whatever a broker does with notices.
- A service claims its parts and shows its token with everything it saves (`save_progress`): a service that was
  stopped and does not know yet that another one took over can save nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.errors import RegistryError
from metering.reading import Reading
from registry.ledger import upsert
from registry.models import State
from registry.models_watch import Touched, WatchFinding, WatchPart

LIVE_MS: Final = 600_000
"""Readings younger than this share one line of the log; older ones get a line of their own, with their own range."""
KEEP_MS: Final = 4_200_000
"""How long the log is kept by the clock of ingest's host."""
SILENT_KEY: Final = "silent_gateways."
"""Prefix of the registry's small fact that names the silent gateways of a part; the part's number follows."""
TRUST_MS: Final = 3_600_000
"""A follower that did not look for longer by its own clock reads everything anew, as at each of its starts."""

_PART: sa.Table = WatchPart.__table__  # type: ignore[assignment]  # SQLAlchemy calls it a FromClause
_FINDING: sa.Table = WatchFinding.__table__  # type: ignore[assignment]  # as above


class PartTakenError(RegistryError):
    """A part is judged by another service; nothing was saved."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the log: meters that got readings with t0 <= read_at <= t1 [ms UTC]."""

    number: int
    at: int
    t0: int
    t1: int
    meters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a part is judged. judged_at: [ms UTC], 0: never. log: number of the log."""

    token: int
    judged_at: int
    log: int


# --- the log of changes -------------------------------------------------------------------------------------------


def note_touched(connection: Connection, readings: Sequence[Reading], now: int) -> None:
    """Note that these readings are in the store, and forget what is older than `KEEP_MS`."""
    if not readings:
        return
    times = [reading.read_at for reading in readings]
    if min(times) >= now - LIVE_MS:
        rows = [_line(now, {reading.meter for reading in readings}, min(times), max(times))]
    else:
        rows = [_line(now, *group) for group in _groups(readings, now - LIVE_MS)]
    connection.execute(sa.insert(Touched), rows)
    connection.execute(sa.delete(Touched).where(Touched.at < now - KEEP_MS))


def _groups(readings: Iterable[Reading], live_from: int) -> Iterable[tuple[set[str], int, int]]:
    """Live readings together, and old ones meter by meter where their ranges differ."""
    ranges: dict[str, tuple[int, int]] = {}
    live: list[Reading] = []
    for reading in readings:
        if reading.read_at >= live_from:
            live.append(reading)
            continue
        low, high = ranges.get(reading.meter, (reading.read_at, reading.read_at))
        ranges[reading.meter] = min(low, reading.read_at), max(high, reading.read_at)
    alike: dict[tuple[int, int], set[str]] = {}
    for meter, span in ranges.items():
        alike.setdefault(span, set()).add(meter)
    for (low, high), meters in alike.items():
        yield meters, low, high
    if live:
        yield {r.meter for r in live}, min(r.read_at for r in live), max(r.read_at for r in live)


def _line(at: int, meters: set[str], t0: int, t1: int) -> dict[str, Any]:
    return {"at": at, "t0": t0, "t1": t1, "meters": zlib.compress(json.dumps(sorted(meters)).encode(), 1)}


def last_number(connection: Connection) -> int:
    """Return the newest number of the log, 0 when it is empty."""
    return int(connection.execute(sa.select(sa.func.max(Touched.id))).scalar() or 0)


def changes_since(connection: Connection, number: int, seen: Collection[int] = ()) -> list[Change]:
    """Return the lines behind `number`, without those already `seen`, in order.

    Two ingest workers may commit their numbers in another order than they drew them, so a follower keeps its place
    below the last minute and names what it has seen above.
    """
    numbers = connection.execute(sa.select(Touched.id).where(Touched.id > number)).scalars()
    wanted = sorted(set(numbers) - set(seen))
    found: list[Change] = []
    for start in range(0, len(wanted), 500):
        statement = sa.select(Touched.__table__).where(Touched.id.in_(wanted[start : start + 500]))
        for row in connection.execute(statement.order_by(Touched.id)):
            meters = tuple(json.loads(zlib.decompress(row.meters)))
            found.append(Change(row.id, row.at, row.t0, row.t1, meters))
    return found


# --- parts --------------------------------------------------------------------------------------------------------


def claim(
    connection: Connection, holder: str, parts: Collection[int], *, now: int, lease_ms: int
) -> dict[int, Progress]:
    """Take parts for `holder` with new tokens, or renew nothing. Raises: PartTakenError when one is another's."""
    known = {row.part: row for row in connection.execute(sa.select(_PART).order_by(_PART.c.part).with_for_update())}
    for part in sorted(parts):
        row = known.get(part)
        if row is not None and row.holder not in ("", holder) and row.expires_at > now:
            raise PartTakenError(f"part {part} of the city is judged by {row.holder}")
    rows, progress = [], {}
    for part in sorted(parts):
        row = known.get(part)
        old = Progress(0, 0, 0) if row is None else Progress(row.token, row.judged_at, row.log)
        progress[part] = Progress(old.token + 1, old.judged_at, old.log)
        facts = {"part": part, "holder": holder, "token": old.token + 1, "expires_at": now + lease_ms}
        rows.append(facts | {"judged_at": old.judged_at, "log": old.log})
    upsert(connection, WatchPart, rows, ("part",), replace=True)
    return progress


def save_progress(
    connection: Connection,
    holder: str,
    tokens: Mapping[int, int],
    *,
    expires_at: int,
    judged_at: int | None = None,
    log: int | None = None,
) -> None:
    """Renew the parts and remember how far they are judged; None leaves it. Raises: PartTakenError."""
    facts: dict[str, int] = {"expires_at": expires_at}
    facts |= {} if judged_at is None else {"judged_at": judged_at}
    facts |= {} if log is None else {"log": log}
    for token in sorted(set(tokens.values())):
        parts = [part for part, own in tokens.items() if own == token]
        mine = _PART.c.part.in_(parts) & (_PART.c.holder == holder) & (_PART.c.token == token)
        if connection.execute(sa.update(_PART).where(mine).values(facts)).rowcount != len(parts):
            raise PartTakenError("another anomaly service took over parts of the city that were ours")


def holders(connection: Connection) -> frozenset[str]:
    """Return the services that held a part last: where one of them is gone, nobody judges that part."""
    return frozenset(connection.execute(sa.select(_PART.c.holder).distinct()).scalars())


def release(connection: Connection, holder: str, tokens: Mapping[int, int]) -> None:
    """Give parts back, so that the next one need not wait for the end of the lease."""
    for part, token in sorted(tokens.items()):
        mine = (_PART.c.part == part) & (_PART.c.holder == holder) & (_PART.c.token == token)
        connection.execute(sa.update(_PART).where(mine).values(expires_at=0))


# --- silent gateways, told to the services of other parts ----------------------------------------------------------


def tell_silent(connection: Connection, words: Mapping[int, str]) -> None:
    """Say of parts of ours which of their gateways are silent, as the service wants it to be read: part -> words."""
    upsert(
        connection,
        State,
        [{"key": f"{SILENT_KEY}{part}", "value": text} for part, text in words.items()],
        ("key",),
        replace=True,
    )


def silent_told(connection: Connection) -> dict[int, str]:
    """Return what is told of all parts, by part; parts of which nothing was ever told are missing."""
    found = connection.execute(
        sa.select(State.key, State.value).where(State.key.startswith(SILENT_KEY, autoescape=True))
    )
    return {int(row.key.removeprefix(SILENT_KEY)): row.value for row in found}


# --- what the rules remember --------------------------------------------------------------------------------------


def save_memory(connection: Connection, rows: Mapping[str, tuple[int, dict[str, Any]]]) -> None:
    """Remember findings: key -> (part, body)."""
    lines = [{"key": key, "part": part, "body": body} for key, (part, body) in rows.items()]
    upsert(connection, WatchFinding, lines, ("key",), replace=True)


def load_memory(connection: Connection, parts: Collection[int]) -> dict[str, dict[str, Any]]:
    """Return what is remembered of findings in these parts, by key."""
    rows = connection.execute(sa.select(_FINDING.c.key, _FINDING.c.body).where(_FINDING.c.part.in_(sorted(parts))))
    return {row.key: dict(row.body) for row in rows}


def forget_memory(connection: Connection, keys: Sequence[str]) -> None:
    """Forget findings that nothing can change any more."""
    for start in range(0, len(keys), 500):
        connection.execute(sa.delete(_FINDING).where(_FINDING.c.key.in_(list(keys[start : start + 500]))))
