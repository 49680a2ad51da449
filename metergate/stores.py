"""The one place that turns the settings' word for a reading store into a store."""

from __future__ import annotations

from typing import Literal

from ingest.settings import StoreSettings
from ingest.store_influx import InfluxStore
from ingest.store_sqlite import SqliteStore
from metering.clock import Clock
from metering.store import ReadingStore


def make_store(settings: StoreSettings, mode: Literal["write", "read"], clock: Clock) -> ReadingStore:
    """Return the store that the settings name; "write" is ingest's, everybody else reads.

    Raises: StoreError when the embedded store's file cannot be opened; a server that is away fails later calls only.
    """
    if settings.kind == "influxdb":
        return InfluxStore(settings.influxdb, mode=mode, clock=clock)
    if mode == "write":
        settings.path.parent.mkdir(parents=True, exist_ok=True)
    return SqliteStore(settings.path, mode=mode)
