"""Is everything there that the way of a reading needs? Each dependency with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from api.access.areas import Areas
from api.queries.gateways import list_gateways
from api.schemas import Check, Readiness
from metering.errors import RegistryError, StoreError
from metering.store import ReadingStore
from registry import watch
from registry.database import Database
from registry.models import State

READY_PREFIX: Final = "ready."
"""Under these keys ingest leaves its readiness among the small facts of the registry."""

ANOMALY_PREFIX: Final = "ready_anomaly."
"""Under these the anomaly services leave theirs."""

_RANK: Final = ("ok", "degraded", "failed")
_SHOWN_GATEWAYS: Final = 5
_FORGOTTEN_S: Final = 3600


def readiness(
    database: Database,
    store: ReadingStore,
    *,
    areas: Areas,
    now_ms: int,
    ingest_stale_s: float,
    gateway_stale_s: float,
) -> Readiness:
    """Return every dependency's state, and of the gateways those in `areas`; never raises for one that is away."""
    checks = [_tried("store", lambda: _store(store))]
    try:
        with database.read() as connection:
            checks += [
                Check(name="registry", status="ok", reason=""),
                *_ingest_and_broker(connection, now_ms, ingest_stale_s),
                *_anomaly(connection, now_ms, ingest_stale_s),
                _gateways(connection, areas, now_ms, gateway_stale_s),
            ]
    except (RegistryError, SQLAlchemyError) as error:
        checks.append(Check(name="registry", status="failed", reason=_sentence(error)))
    worst = max(checks, key=lambda check: _RANK.index(check.status)).status
    return Readiness(status=worst, checks=sorted(checks, key=lambda check: check.name))


def faults(connection: Connection, now_ms: int, ingest_stale_s: float) -> list[Check]:
    """Return what makes the registry's data old now: ingest, broker or rules that fail or do not report."""
    checks = [*_ingest_and_broker(connection, now_ms, ingest_stale_s), *_anomaly(connection, now_ms, ingest_stale_s)]
    return [check for check in checks if check.status != "ok"]


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


@dataclass(frozen=True, slots=True)
class Report:
    """What one process last said. problems: dependency -> why it cannot, "" when it can."""

    instance: str
    age_s: int
    problems: dict[str, str]


def reports(connection: Connection, now_ms: int, prefix: str = READY_PREFIX) -> list[Report]:
    """Return what the processes under a prefix last said of themselves."""
    rows = connection.execute(sa.select(State.key, State.value).where(State.key.startswith(prefix, autoescape=True)))
    found = []
    for key, value in rows:
        try:
            said = json.loads(value)
            problems = {str(name): str(reason) for name, reason in said["problems"].items()}
            age_s = max(0, now_ms - int(said["at"])) // 1000
        except (ValueError, TypeError, KeyError, AttributeError):
            problems, age_s = {"ingest": "its report cannot be read"}, 0
        found.append(Report(key.removeprefix(prefix), age_s, problems))
    return found


def _ingest_and_broker(connection: Connection, now_ms: int, stale_s: float) -> list[Check]:
    """Every ingest process reports itself; it also holds the session to the broker."""
    said = reports(connection, now_ms)
    fresh = [report for report in said if report.age_s <= stale_s]
    # a process that was taken out of service long ago is no fault while another one works
    silent = [report for report in said if report.age_s > stale_s and (report.age_s < _FORGOTTEN_S or not fresh)]
    faults = [f"{report.instance} has not reported for {report.age_s} s" for report in silent]
    for report in fresh:
        faults += [
            f"{report.instance}: {'' if name == 'ingest' else name + ': '}{reason}"
            for name, reason in report.problems.items()
            if reason and name != "broker"
        ]
    if not said:
        faults = ["ingest has never reported to this registry"]
    broker = [f"{r.instance}: {reason}" for r in fresh if (reason := r.problems.get("broker"))]
    if not fresh:
        broker = ["not known: ingest, which holds the session, does not report"]
    return [_check("ingest", faults), _check("broker", broker)]


def _anomaly(connection: Connection, now_ms: int, stale_s: float) -> list[Check]:
    """Every anomaly service reports itself; where none ever ran, nobody misses one."""
    said = reports(connection, now_ms, ANOMALY_PREFIX)
    fresh = [report for report in said if report.age_s <= stale_s]
    holders = watch.holders(connection)  # one whose parts nobody took over is missed for ever
    faults = [
        f"{report.instance} has not reported for {report.age_s} s"
        for report in said
        if report.age_s > stale_s and (report.age_s < _FORGOTTEN_S or not fresh or report.instance in holders)
    ]
    faults += [f"{report.instance}: {reason}" for report in fresh for reason in report.problems.values() if reason]
    return [_check("anomaly", faults)] if said else []


def _check(name: str, faults: list[str]) -> Check:
    return Check(name=name, status="failed" if faults else "ok", reason="; ".join(faults)[:500])


def _gateways(connection: Connection, areas: Areas, now_ms: int, stale_s: float) -> Check:
    page = list_gateways(connection, areas=areas, now_ms=now_ms, stale_s=stale_s, limit=1000, cursor=None)
    troubled = [gateway for gateway in page.items if gateway.status not in ("ok", "never_seen")]
    if not troubled:
        return Check(name="gateways", status="ok", reason="")
    named = "; ".join(f"{g.id} {g.status}: {g.status_reason}" for g in troubled[:_SHOWN_GATEWAYS])
    more = f"; and {len(troubled) - _SHOWN_GATEWAYS} more" if len(troubled) > _SHOWN_GATEWAYS else ""
    return Check(name="gateways", status="degraded", reason=named + more)
