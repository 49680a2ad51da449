"""Gateways and their delivery ledger: what they made, and what became of every row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.areas import Areas, gateway_seen
from api.paging import Page
from api.problems import not_found
from api.schemas import EpochOut, GatewayOut, GatewaySummary, Range
from ingest.ledger import acknowledge, committed
from registry.ledger import Position, load_positions
from registry.models import Gateway, GatewayStatus, Meter, PositionRecord

_STATUS: Final = GatewayStatus.__table__


@dataclass(frozen=True, slots=True)
class _Known:
    """All that the tables say of one gateway."""

    id: str
    registered: Mapping[str, Any] | None
    status: Mapping[str, Any] | None
    positions: list[Position]
    meters: int


def list_gateways(
    connection: Connection, *, areas: Areas, now_ms: int, stale_s: float, limit: int, cursor: str | None
) -> Page[GatewaySummary]:
    """Return one page of gateways by id: those of the registry, and (for all areas) those that only send."""
    after = paging.text_key("gateways", cursor)
    known = sa.union(sa.select(Gateway.id), sa.select(PositionRecord.gateway), sa.select(GatewayStatus.gateway))
    names = known.subquery("names")
    statement = sa.select(names.c.id).order_by(names.c.id).limit(limit + 1)
    if areas is not None:
        statement = statement.where(gateway_seen(areas, names.c.id))
    if after is not None:
        statement = statement.where(names.c.id > after)
    ids = list(connection.execute(statement).scalars())
    page = paging.page_of(ids, limit, "gateways", lambda name: name)
    lines = [_summary(found, now_ms, stale_s) for found in _load(connection, page.items)]
    return Page(lines, page.next_cursor)


def one_gateway(connection: Connection, gateway: str, *, areas: Areas, now_ms: int, stale_s: float) -> GatewayOut:
    """Return one gateway with its ledger per epoch, newest first. Raises: ProblemError 404, also outside `areas`."""
    (found,) = _load(connection, [gateway])
    district = found.registered["district"] if found.registered else ""
    if areas is not None and (not district or district not in areas):
        raise not_found("gateway", gateway)
    if found.registered is None and found.status is None and not found.positions:
        raise not_found("gateway", gateway)
    epochs = sorted(found.positions, key=lambda position: position.last_up_at, reverse=True)
    return GatewayOut(
        **dict(_summary(found, now_ms, stale_s)),
        epochs=[epoch_out(position) for position in epochs],
        health=dict(found.status["health"]) if found.status else {},
    )


def is_online(connection: Connection, gateway: str, *, now_ms: int, stale_s: float) -> bool:
    """True when a gateway is connected and was heard lately."""
    (found,) = _load(connection, [gateway])
    return _is_online(found, now_ms, stale_s)


def epoch_out(position: Position) -> EpochOut:
    """Return one epoch of the ledger as the API shows it."""
    upto, missing = acknowledge(position.spans, position.oldest)
    return EpochOut(
        epoch=position.epoch,
        produced=position.produced,
        acknowledged_upto=upto,
        committed=_committed(position),
        stored=position.stored,
        duplicates=position.duplicates,
        quarantined=position.quarantined,
        events=position.events,
        gone=position.gone,
        waiting=_waiting(position),
        missing=[Range(first=first, last=last) for first, last in missing],
        oldest_held=position.oldest,
        last_message_at=words.moment(position.last_up_at or None),
    )


def _committed(position: Position) -> int:
    # ingest closes the place of a row that is gone, so that nobody waits for it; it was never committed
    return max(0, sum(last - first + 1 for first, last in position.spans) - position.gone)


def _waiting(position: Position) -> int:
    held = max(0, position.produced - position.oldest + 1)
    return held - committed(position.spans, position.oldest, position.produced) if held else 0


def _missing(position: Position) -> int:
    _, missing = acknowledge(position.spans, position.oldest)
    return sum(last - first + 1 for first, last in missing)


def _load(connection: Connection, ids: list[str]) -> list[_Known]:
    rows = connection.execute(sa.select(Gateway.__table__).where(Gateway.id.in_(ids))).mappings()
    registered: dict[str, Mapping[str, Any]] = {row["id"]: dict(row) for row in rows}
    said = connection.execute(sa.select(_STATUS).where(_STATUS.c.gateway.in_(ids))).mappings()
    status: dict[str, Mapping[str, Any]] = {row["gateway"]: dict(row) for row in said}
    counted = connection.execute(
        sa.select(Meter.gateway_id, sa.func.count()).where(Meter.gateway_id.in_(ids)).group_by(Meter.gateway_id)
    )
    meters = {row[0]: row[1] for row in counted}
    positions = _positions(connection, set(ids))
    return [
        _Known(name, registered.get(name), status.get(name), positions[name], meters.get(name, 0)) for name in ids
    ]


def _positions(connection: Connection, ids: set[str]) -> dict[str, list[Position]]:
    grouped: dict[str, list[Position]] = defaultdict(list)
    for (gateway, _), position in load_positions(connection).items():
        if gateway in ids:
            grouped[gateway].append(position)
    return grouped


def _summary(known: _Known, now_ms: int, stale_s: float) -> GatewaySummary:
    health = known.status["health"] if known.status else {}
    status, reason = _judge(known, now_ms, stale_s)
    return GatewaySummary(
        id=known.id,
        name=known.registered["name"] if known.registered else "",
        district=known.registered["district"] if known.registered else "",
        registered=known.registered is not None,
        online=_is_online(known, now_ms, stale_s),
        status=status,
        status_reason=reason,
        meters=known.meters,
        **_sums(known.positions),
        waiting=_whole(health.get("waiting"), sum(map(_waiting, known.positions))),
        oldest_waiting_at=words.moment(_whole(health.get("oldest_at"), None)),
        last_message_at=words.moment(max((p.last_up_at for p in known.positions), default=0) or None),
        last_health_at=words.moment(known.status["health_at"]) if known.status else None,
    )


def _sums(positions: Iterable[Position]) -> dict[str, int]:
    sums = dict.fromkeys(("produced", "committed", "stored", "duplicates", "quarantined", "events", "gone"), 0)
    sums["missing"] = 0
    for position in positions:
        for name in ("produced", "stored", "duplicates", "quarantined", "events", "gone"):
            sums[name] += getattr(position, name)
        sums["committed"] += _committed(position)
        sums["missing"] += _missing(position)
    return sums


def _whole(value: Any, otherwise: Any) -> Any:
    """What a gateway says of itself is its word, not a checked fact: only a sane whole number is taken."""
    sane = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 253_402_300_800_000
    return value if sane else otherwise


def _last_heard(known: _Known) -> int:
    times = [position.last_up_at for position in known.positions]
    if known.status:
        times += [known.status["state_at"] or 0, known.status["health_at"] or 0]
    return max(times, default=0)


def _is_online(known: _Known, now_ms: int, stale_s: float) -> bool:
    connected = known.status is not None and bool(known.status["online"])
    return connected and now_ms - _last_heard(known) <= stale_s * 1000


def _judge(known: _Known, now_ms: int, stale_s: float) -> tuple[str, str]:
    """Return (status, reason in one sentence)."""
    heard = _last_heard(known)
    if not heard:
        return "never_seen", "it has never been heard"
    if known.status is not None and not known.status["online"]:
        return "offline", f"it left the broker; last heard {words.moment(heard)}"
    if now_ms - heard > stale_s * 1000:
        return "silent", f"not heard since {words.moment(heard)}"
    health = known.status["health"] if known.status else {}
    outbox = health.get("outbox", "ok")
    if outbox != "ok":
        return f"outbox_{outbox}", str(health.get("outbox_reason", ""))[:300]
    return "ok", ""
