"""The one place that turns the settings' word for a reading store into a store."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlparse

from api.settings import is_loopback
from ingest.settings import IngestSettings, StoreSettings
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


def store_notes(store: StoreSettings, ingest: IngestSettings) -> list[str]:
    """Return what is allowed in these settings but worth a second thought."""
    found = []
    influx, used, leased = store.influxdb, store.kind == "influxdb", ingest.sharing == "lease"
    if leased and not used:
        found.append("ingest.sharing is lease, but only one process may write the sqlite store: use influxdb")
    if leased and ingest.parts:
        found.append("ingest.parts does nothing while ingest.sharing is lease")
    if used and influx.wire == "v2" and not influx.token.get_secret_value():
        found.append("store.influxdb.wire is v2, which needs store.influxdb.token")
    if used and influx.url.startswith("http:") and not is_loopback(urlparse(influx.url).hostname or ""):
        found.append("store.influxdb.url is http: readings and secrets travel unencrypted; use https")
    if used and influx.read_back_rows == 0:
        found.append("store.influxdb.read_back_rows is 0: a server that says yes and drops would go unnoticed")
    return found
