"""How large registry and store are, how they grow, and how long the disk lasts; a sample a day stays in the registry.

What is not known is None: a database on another host tells its size and not its disk, an InfluxDB neither.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import Clock
from metering.errors import RegistryError
from metering.store import ReadingStore
from registry.database import Database
from registry.ledger import get_state, set_state

_LOG: Final = structlog.get_logger("api")
STATE_KEY: Final = "storage.samples"
DAY_MS: Final = 86_400_000
SAMPLE_S: Final = 3600.0
"""How often the sample of the day is renewed."""
_KEPT: Final = 90
_LEAST_DAYS: Final = 2.0
"""Less than that between the first and the last sample says nothing about a day."""
_LOOK_BACK_D: Final = 30


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was measured at a moment [ms UTC]; bytes, None where nobody can tell.

    registry_free, store_free: of the disk that it lies on; same_disk: both lie on one.
    """

    at: int
    registry: int | None = None
    store: int | None = None
    registry_free: int | None = None
    store_free: int | None = None
    same_disk: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """growth: [bytes/day]; free: [bytes] of its disk; days: until the disk is full, None when it is not known or
    nothing grows. over_days: how long was watched."""

    size: int | None
    growth: float | None
    free: int | None
    days: float | None
    over_days: float


def measure(connection: Connection, database: Database, store: ReadingStore, now_ms: int) -> Sizes:
    """Return what can be measured from here."""
    path = _registry_path(database)
    held = getattr(store, "path", None)
    store_path = held if isinstance(held, Path) else None
    registry = _file_bytes(path) if path is not None else _database_bytes(connection, database)
    devices = [_device(place) for place in (path, store_path)]
    return Sizes(
        at=now_ms,
        registry=registry,
        store=None if store_path is None else _file_bytes(store_path),
        registry_free=_free(path),
        store_free=_free(store_path),
        same_disk=devices[0] is not None and devices[0] == devices[1],
    )


def _registry_path(database: Database) -> Path | None:
    name = database.url.database
    return Path(name) if database.is_sqlite and name and name != ":memory:" else None


def _file_bytes(path: Path) -> int | None:
    """A file and what SQLite keeps beside it."""
    found = [Path(f"{path}{tail}") for tail in ("", "-wal", "-journal")]
    try:
        return sum(file.stat().st_size for file in found if file.exists())
    except OSError:
        return None


def _database_bytes(connection: Connection, database: Database) -> int | None:
    if database.is_sqlite:
        return None
    return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())


def _free(path: Path | None) -> int | None:
    try:
        return None if path is None else shutil.disk_usage(path.parent).free
    except OSError:
        return None


def _device(path: Path | None) -> int | None:
    try:
        return None if path is None else path.parent.stat().st_dev
    except OSError:
        return None


# -- samples ---------------------------------------------------------------------------------------------------------


def samples(connection: Connection) -> list[Sizes]:
    """Return the samples that are kept, oldest first; one that cannot be read is left out."""
    try:
        kept: Any = json.loads(get_state(connection, STATE_KEY) or "[]")
        return [Sizes(**sample) for sample in kept]
    except (ValueError, TypeError):
        return []


def keep(connection: Connection, sizes: Sizes) -> None:
    """Keep a sample: one for each day (UTC), the newest of it."""
    before = [sample for sample in samples(connection) if sample.at // DAY_MS != sizes.at // DAY_MS]
    kept = sorted([*before, sizes], key=lambda sample: sample.at)[-_KEPT:]
    set_state(connection, STATE_KEY, json.dumps([asdict(sample) for sample in kept]))


async def run_sampling(database: Database, store: ReadingStore, clock: Clock) -> None:
    """Measure now and once an hour, until cancelled."""

    def once() -> None:
        with database.begin() as connection:
            keep(connection, measure(connection, database, store, clock.now_ms()))

    while True:
        try:
            await asyncio.to_thread(once)
        except (RegistryError, SQLAlchemyError, OSError) as error:
            _LOG.warning("sizes_not_sampled", error=str(error))
        await clock.sleep(SAMPLE_S)


# -- forecast --------------------------------------------------------------------------------------------------------


def forecast(history: Sequence[Sizes], now: Sizes) -> dict[str, Forecast]:
    """Return what registry and store grow by, and when their disk is full when it goes on like this.

    history: samples, oldest first; the last 30 days count. Two that lie on one disk fill it together.
    """
    recent = [sample for sample in history if now.at - _LOOK_BACK_D * DAY_MS <= sample.at < now.at]
    growth = {name: _growth(recent, now, name) for name in ("registry", "store")}
    found = {}
    for name, free in (("registry", now.registry_free), ("store", now.store_free)):
        fills = _together(growth) if now.same_disk else growth[name][0]
        days = free / fills if free is not None and fills is not None and fills > 0 else None
        found[name] = Forecast(getattr(now, name), growth[name][0], free, days, growth[name][1])
    return found


def _together(growth: dict[str, tuple[float | None, float]]) -> float | None:
    both = [part[0] for part in growth.values()]
    return None if any(part is None for part in both) else sum(max(0.0, part) for part in both if part is not None)


def _growth(history: Sequence[Sizes], now: Sizes, name: str) -> tuple[float | None, float]:
    """Return ([bytes/day] between the first sample and now, [d] how long that was)."""
    present = getattr(now, name)
    first = next((sample for sample in history if getattr(sample, name) is not None), None)
    if first is None or present is None:
        return None, 0.0
    days = (now.at - first.at) / DAY_MS
    return ((present - getattr(first, name)) / days if days >= _LEAST_DAYS else None), days
