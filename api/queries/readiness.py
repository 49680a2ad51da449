"""Is everything there that the way of a reading needs? Each dependency with its reason."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from api.queries.gateways import list_gateways
from api.schemas import Check, Readiness
from metering.errors import RegistryError, StoreError
from metering.store import ReadingStore
from registry.database import Database
from registry.models import Counter

_RANK = ("ok", "degraded", "failed")
_SHOWN_GATEWAYS = 5


def readiness(
    database: Database, store: ReadingStore, *, now_ms: int, ingest_stale_s: float, gateway_stale_s: float
) -> Readiness:
    """Return every dependency's state; never raises for a dependency that is away."""
    checks = [_tried("store", lambda: _store(store))]
    try:
        with database.read() as connection:
            checks += [
                Check(name="registry", status="ok", reason=""),
                *_ingest_and_broker(connection, now_ms, ingest_stale_s),
                _gateways(connection, now_ms, gateway_stale_s),
            ]
    except (RegistryError, SQLAlchemyError) as error:
        checks.append(Check(name="registry", status="failed", reason=_sentence(error)))
    worst = max(checks, key=lambda check: _RANK.index(check.status)).status
    return Readiness(status=worst, checks=sorted(checks, key=lambda check: check.name))


def _tried(name: str, look: Callable[[], None]) -> Check:
    try:
        look()
    except StoreError as error:
        return Check(name=name, status="failed", reason=_sentence(error))
    return Check(name=name, status="ok", reason="")


def _store(store: ReadingStore) -> None:
    store.get([("readyz", 0)])


def _sentence(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error)[:300]


def _ingest_and_broker(connection: Connection, now_ms: int, stale_s: float) -> list[Check]:
    """Ingest writes its counters each second; among them whether its session to the broker is up."""
    spoke = connection.execute(sa.select(sa.func.max(Counter.updated_at)).where(Counter.service == "ingest")).scalar()
    if spoke is None:
        silent = "ingest has never reported to this registry"
    elif now_ms - spoke > stale_s * 1000:
        silent = f"ingest has not reported for {(now_ms - spoke) // 1000} s"
    else:
        return [Check(name="ingest", status="ok", reason=""), _broker(connection)]
    unknown = "not known: ingest, which holds the session, does not report"
    return [
        Check(name="ingest", status="failed", reason=silent),
        Check(name="broker", status="failed", reason=unknown),
    ]


def _broker(connection: Connection) -> Check:
    connected = connection.execute(
        sa.select(sa.func.max(Counter.value)).where(Counter.service == "ingest", Counter.name == "broker_connected")
    ).scalar()
    if connected is None:
        return Check(name="broker", status="degraded", reason="ingest does not report its session to the broker")
    if not connected:
        return Check(name="broker", status="failed", reason="ingest has no session to the broker")
    return Check(name="broker", status="ok", reason="")


def _gateways(connection: Connection, now_ms: int, stale_s: float) -> Check:
    page = list_gateways(connection, now_ms=now_ms, stale_s=stale_s, limit=1000, cursor=None)
    troubled = [gateway for gateway in page.items if gateway.status not in ("ok", "never_seen")]
    if not troubled:
        return Check(name="gateways", status="ok", reason="")
    named = "; ".join(f"{g.id} {g.status}: {g.status_reason}" for g in troubled[:_SHOWN_GATEWAYS])
    more = f"; and {len(troubled) - _SHOWN_GATEWAYS} more" if len(troubled) > _SHOWN_GATEWAYS else ""
    return Check(name="gateways", status="degraded", reason=named + more)
