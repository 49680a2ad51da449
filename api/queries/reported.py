"""Figures that other services left in the registry, for the page of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.metrics import PREFIX, Sample, is_name, parse_labels
from api.queries.gateways import list_gateways
from api.schemas import GatewaySummary
from registry.findings_rate import alarm_rate
from registry.findings_settings import AlarmSettings
from registry.models import Counter, GatewayStatus, Latest, Meter

_COUNTED: Final = ("produced", "committed", "stored", "duplicates", "quarantined", "events", "gone")
_LEVELS: Final = ("waiting", "missing", "meters")
_MAX_COUNTERS: Final = 50
_ALARMS: Final = AlarmSettings()


def samples(
    connection: Connection, *, now_ms: int, stale_s: float, alarms: AlarmSettings = _ALARMS
) -> Iterator[Sample]:
    """Yield every figure: counters of services, ledgers and health of gateways, and how many meters there are."""
    yield from _services(connection, now_ms)
    cursor = None
    while True:
        page = list_gateways(connection, areas=None, now_ms=now_ms, stale_s=stale_s, limit=1000, cursor=cursor)
        for gateway in page.items:
            yield from _ledger(gateway)
        cursor = page.next_cursor
        if cursor is None:
            break
    yield from _health(connection)
    yield Sample(
        "registry_meters", (), connection.execute(sa.select(sa.func.count()).select_from(Meter)).scalar_one()
    )
    read = connection.execute(sa.select(sa.func.count()).select_from(Latest)).scalar_one()
    yield Sample("registry_meters_ever_read", (), read)
    yield from _alarms(connection, now_ms, alarms)


def _services(connection: Connection, now_ms: int) -> Iterator[Sample]:
    """Each process counts under its own name; two ingest processes are told apart by the label `service`."""
    ignored = 0
    rows = connection.execute(sa.select(Counter.__table__).order_by(Counter.service, Counter.name, Counter.labels))
    newest: dict[str, int] = {}
    for row in rows.mappings():
        newest[row["service"]] = max(newest.get(row["service"], 0), row["updated_at"])
        name = row["name"].removeprefix(PREFIX)
        try:
            labels = dict(parse_labels(row["labels"])) | {"service": row["service"]}
        except ValueError:
            ignored += 1
            continue
        if is_name(name):
            yield Sample(name, tuple(sorted(labels.items())), row["value"])
        else:
            ignored += 1
    for service, updated_at in newest.items():
        yield Sample("service_report_age_seconds", (("service", service),), max(0, now_ms - updated_at) / 1000)
    yield Sample("api_reported_figures_ignored", (), ignored)


def _alarms(connection: Connection, now_ms: int, settings: AlarmSettings) -> Iterator[Sample]:
    """How many alarms people get, beside the limits that they can manage."""
    rate = alarm_rate(connection, now_ms, settings)
    yield Sample("alarms_per_10min", (), rate.now)
    yield Sample("alarm_flood", (), float(rate.flood))
    yield Sample("alarms_per_10min_manageable", (), settings.rate_manageable)
    yield Sample("alarms_per_10min_flood", (), settings.flood_begins)
    for state, count in sorted(rate.states.items()):
        yield Sample("alarms", (("state", state),), count)


def _ledger(gateway: GatewaySummary) -> Iterator[Sample]:
    label = (("gateway", gateway.id),)
    for name in _COUNTED:
        yield Sample(f"gateway_rows_{name}_total", label, getattr(gateway, name))
    for name in _LEVELS:
        yield Sample(f"gateway_{name}", label, getattr(gateway, name))
    yield Sample("gateway_online", label, float(gateway.online))


def _health(connection: Connection) -> Iterator[Sample]:
    """The counters that gateways count themselves; what is not a number or has no usable name is left out."""
    for row in connection.execute(sa.select(GatewayStatus.gateway, GatewayStatus.health)):
        counters: Any = row.health.get("counters")
        for name, value in list(counters.items())[:_MAX_COUNTERS] if isinstance(counters, dict) else ():
            sound = isinstance(value, int | float) and not isinstance(value, bool)
            if sound and is_name(name) and len(name) <= 64:
                yield Sample(f"gateway_{name.removesuffix('_total')}_total", (("gateway", row.gateway),), value)
