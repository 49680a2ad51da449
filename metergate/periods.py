"""Where `detect` and `backtest` take their period from: two files, or the registry and the reading store."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from anomaly.files import Readings, between, read_meters, read_readings
from anomaly.meters import MeterTable
from anomaly.scoring import Labels
from anomaly.stored import city_zone, read_period, read_places
from api.orders.precision import labels
from metergate.console import say
from metergate.running import registry
from metergate.settings import load_settings
from metergate.stores import make_store
from metering.clock import SystemClock
from metering.errors import SettingsError
from registry.books import moment

MetersOption = Annotated[
    Path | None,
    typer.Option("--meters", help="Master data: CSV, CSV.gz or Parquet; UTF-8 or GBK. Without: the registry."),
]
ReadingsOption = Annotated[
    Path | None,
    typer.Option("--readings", help="Readings with meter_id, ts, index (received_at, flags). Without: the store."),
]
SinceOption = Annotated[
    str, typer.Option("--from", help="Start of the period: a date, or a time such as 2026-03-01T00:00:00+08:00.")
]
UntilOption = Annotated[
    str, typer.Option("--to", "--until", help="End of the period: the first moment that counts no more.")
]


@dataclass(frozen=True, slots=True)
class Period:
    """Meters and their readings in order of arrival. name: for headings. found: what crews found, of a stored period
    for which it was asked."""

    table: MeterTable
    rows: Readings
    name: str
    found: Labels | None = None


def open_period(
    meters: Path | None,
    readings: Path | None,
    config: Path | None,
    since: str,
    until: str,
    *,
    found: bool = False,
) -> Period:
    """Read a period from files when they are named, else from registry and store; tell a person what is assumed.

    found: also what crews found at the period's findings, as labels.
    Raises: SettingsError, StoreError, RegistryError.
    """
    if meters is None and readings is None:
        return _stored(config, since, until, found)
    if found:
        raise SettingsError("what crews found stands in the registry: leave --meters and --readings out")
    if meters is None or readings is None:
        raise SettingsError("--meters and --readings belong together; without both, the registry and store are read")
    if config is not None:
        raise SettingsError("either --meters and --readings, or --config with --from and --to: not both")
    return _files(meters, readings, since, until)


def _files(meters: Path, readings: Path, since: str, until: str) -> Period:
    table, warnings = read_meters(meters)
    rows = read_readings(readings, table)
    if since or until:
        rows = between(rows, since, until)
    for line in warnings:
        say(line)
    if rows.unknown_meters:
        say(f"{readings}: {rows.unknown_meters} rows of meters that {meters} does not name are not judged")
    return Period(table, rows, readings.name)


def _stored(config: Path | None, since: str, until: str, found: bool) -> Period:
    if not since or not until:
        raise SettingsError("a stored period needs --from and --to; for files name --meters and --readings")
    settings = load_settings(config)
    with registry(settings) as database, database.read() as connection:
        zone = city_zone(connection)
        t0, t1 = _moment("--from", since, zone), _moment("--to", until, zone)
        if t0 >= t1:
            raise SettingsError(f"--from {since} is not before --to {until}")
        places = read_places(connection, t0, t1)
        names = dict(zip(places.usage_points, (meter.meter_id for meter in places.table.meters), strict=True))
        known = labels(connection, names, since_ms=t0, until_ms=t1) if found else None
    with closing(make_store(settings.store, "read", SystemClock())) as store:
        rows = read_period(store, places, t0, t1)
    for line in places.notes:
        say(line)
    return Period(places.table, rows, f"{since} to {until}", known)


def _moment(option: str, text: str, zone: str) -> int:
    try:
        return moment(text.replace("Z", "+00:00"), zone)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: write a date such as 2026-01-01 or a time with offset") from error
