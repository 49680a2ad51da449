"""A small utility with known figures: three meters, two gateways, a ledger, events, quarantine, readings."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from sqlalchemy.engine import Connection

from api.app import close, create_app
from api.settings import ApiSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import ManualClock
from metering.reading import Flag, Reading
from metering.signing import OfficeKey
from metering.store import ReadingStore
from registry import commands, keys, ledger, users
from registry.books import import_meters
from registry.database import Database
from registry.roles import Role, console
from tests.api import billing_world, desk_world, findings_world, orders_world

T0 = 1_772_323_200_000  # 2026-03-01T00:00:00Z
HOUR = 3_600_000
COMMAND = "0" * 32

METERS = (
    "meter_id,medium,usage_point,serial,profile,quantity,gateway,bus,host,port,address,interval_s,"
    "district,customer_address,start_index,qmax_per_h,resolution,install_date,tz\n"
    "G-0001,gas,UP-1,SN100%,example-gas,volume_standard,gw-1,tcp-1,127.0.0.1,502,1,5,"
    "north,1 Hill <b>Road</b>,10.5,6,0.001,2026-01-01,UTC\n"
    "W-0001,water,UP-2,SN2,example-water,volume,gw-1,tcp-1,127.0.0.1,502,2,5,south,2 Hill Road,,,,,UTC\n"
    "E-0001,electricity,UP-3,SN3,example-power,energy_import,gw-2,tcp-2,127.0.0.1,503,1,60,"
    "north,3 Hill Road,,,,,UTC\n"
)


def at(hour: int) -> str:
    """RFC 3339 of T0 + hours."""
    day, rest = divmod(hour, 24)
    return f"2026-03-{day + 1:02d}T{rest:02d}:00:00.000Z"


def gas_reading(hour: int, **more: Any) -> Reading:
    """G-0001 shows 1000 m³ at T0 and half a cubic metre more each hour; arrives a second later."""
    values = {"volume_standard": 1_000_000_000 + hour * 500_000, "pressure": 101_325_000}
    when = T0 + hour * HOUR
    return Reading("G-0001", when, values, received_at=when + 1000, **more)  # type: ignore[arg-type]


@dataclass
class World:
    """One application over real tables and a real store."""

    app: FastAPI
    database: Database
    store: ReadingStore
    clock: ManualClock
    folder: Path
    key: str
    """For all roles and areas; every request carries it unless it says otherwise."""

    def get(self, address: str, **arguments: Any) -> httpx.Response:
        """GET one address."""
        return self.request("GET", address, **arguments)

    def request(self, method: str, address: str, **arguments: Any) -> httpx.Response:
        """Send one request as the only caller."""

        async def ask() -> httpx.Response:
            async with client(self.app) as caller:
                return await caller.request(method, address, **arguments)

        return asyncio.run(ask())

    def close(self) -> None:
        """End threads and connections."""
        close(self.app)
        self.store.close()
        self.database.close()


def client(app: FastAPI, key: str | None = None, peer: str = "127.0.0.1") -> httpx.AsyncClient:
    """Return a caller of the application itself, without sockets. key: "" for none, None for the world's."""
    shown = app.state.test_key if key is None else key
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, client=(peer, 4711)),
        base_url="http://127.0.0.1:8080",
        headers={"authorization": f"Bearer {shown}"} if shown else {},
    )


def make_key(database: Database, *roles: Role, areas: frozenset[str] | None = None, **more: Any) -> str:
    """Return a new key. more: of `registry.keys.create`; it ends a day after the worlds' time by itself."""
    facts = {"name": "test", "read_only": False, "at": T0, "expires_at": T0 + 48 * HOUR, **more}
    with database.begin() as connection:
        return keys.create(connection, console("test"), roles=roles, areas=areas, **facts)[0]


def write_readings(path: Path, readings: list[Reading]) -> None:
    """Write as ingest would: the one writer, who then goes away."""
    writer = SqliteStore(path, mode="write")
    writer.write(readings)
    writer.close()


def make_world(
    folder: Path,
    *,
    settings: ApiSettings | None = None,
    store: ReadingStore | None = None,
    filled: bool = True,
    database: Database | None = None,
) -> World:
    """Build everything in `folder`; the clock stands at T0 + 24 h. database: empty tables, instead of SQLite."""
    if database is not None:
        key = fill_all(database, folder)
    elif filled:
        database = Database(f"sqlite:///{folder / 'registry.db'}")
        files, key = _files()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    else:
        database = Database(f"sqlite:///{folder / 'registry.db'}")
        database.upgrade()
        key = make_key(database, *Role)
    clock = ManualClock(T0 + 24 * HOUR)
    opened = store or SqliteStore(folder / "readings.db", mode="read")
    app = create_app(_unhurried(settings or ApiSettings()), database=database, store=opened, clock=clock)
    app.state.test_key = key
    return World(app, database, opened, clock, folder, key)


def make_user(database: Database, name: str, *roles: Role, areas: frozenset[str] | None = None) -> str:
    """Make a user and return the one-time password."""
    facts = {"display_name": "", "ranks": (), "areas": areas, "at": T0}
    with database.begin() as connection:
        return users.create(connection, console("test"), name=name, roles=roles, **facts)[1]  # type: ignore[arg-type]


def _unhurried(settings: ApiSettings) -> ApiSettings:
    """The clock of a world stands, so that no bucket ever fills again: tests of limits set their own."""
    plenty = {"rate_burst": 1_000_000, "unknown_burst": 1_000_000, "tries_burst": 10_000}
    return settings.model_copy(update={k: v for k, v in plenty.items() if k not in settings.model_fields_set})


@cache
def _files() -> tuple[dict[str, bytes], str]:
    """Build the tables once; every test gets a copy, and the administrator's key."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        database = Database(f"sqlite:///{folder / 'registry.db'}")
        database.upgrade()
        key = fill_all(database, folder)
        database.close()
        return {name: (folder / name).read_bytes() for name in ("registry.db", "readings.db")}, key


def fill_all(database: Database, folder: Path) -> str:
    """Tables, the administrator's key (returned), a user, and a day of readings."""
    fill(database)
    key = make_key(database, *Role)
    make_user(database, "li", Role.VIEWER)
    write_readings(folder / "readings.db", [gas_reading(hour) for hour in range(24)])
    return key


def fill(database: Database) -> None:
    """Write the tables by the functions that the services use."""
    now = T0 + 24 * HOUR
    with database.begin() as connection:
        result = import_meters(connection, METERS)
        assert (result.meters, result.bad) == (3, [])
        ledger.save_latest(connection, [_latest_gas(now), _latest_water(now)])
        ledger.save_closings(connection, [_closing(day) for day in (1, 2, 3)])
        ledger.save_positions(connection, _positions(now))
        ledger.save_gateway_status(connection, _statuses(now))
        ledger.add_events(connection, _events(now))
        ledger.add_quarantine(connection, _refused(now))
        counters: dict[str | tuple[str, str], float] = {
            "metergate_ingest_meters": 3.0,
            ("metergate_ingest_readings_total", 'result="stored"'): 24.0,
            ("metergate_ingest_readings_total", 'result="conflict"'): 2.0,
        }
        ledger.save_counters(connection, "ingest-1", counters, now - 1000)
        say_ready(connection, now - 1000)
        findings_world.fill(connection, now)
        billing_world.fill(connection, now)
        desk_world.fill(connection, now)
        orders_world.fill(connection, now)
        wanted = commands.Order("gw-1", "read-now", {"meters": ["G-0001"]}, COMMAND, "G-0001")
        commands.order(connection, console("test"), OfficeKey(Ed25519PrivateKey.generate()), wanted, at=now - 1000)


def say_ready(connection: Connection, at_ms: int, instance: str = "ingest-1", **problems: str) -> None:
    """Write what an ingest process writes of its own state."""
    said = {"at": at_ms, "problems": {"ingest": "", "broker": "", "store": "", "registry": "", **problems}}
    ledger.set_state(connection, f"ready.{instance}", json.dumps(said))


def _latest_gas(now: int) -> ledger.LatestRow:
    values = {"pressure": 101_325_000, "volume_standard": 1_011_500_000}
    flags = Flag.VALVE_CLOSED | Flag.LOW_BATTERY | 1 << 9
    return ledger.LatestRow(
        "G-0001", now - HOUR, now - HOUR + 1000, now - HOUR - 2000, "valid", "", "poll", flags, values
    )


def _latest_water(now: int) -> ledger.LatestRow:
    return ledger.LatestRow(
        "W-0001", now - 5000, now - 4000, None, "suspect", "index_step_back", "poll", 0, {"volume": 7}
    )


def _closing(day: int) -> ledger.ClosingRow:
    when = T0 + day * 24 * HOUR - HOUR
    return ledger.ClosingRow("G-0001", f"2026-03-{day:02d}", "volume_standard", when, day * 10_000_001, "valid")


def _positions(now: int) -> list[ledger.Position]:
    # gw-1: 1…10 and 13…20 of 25 are committed, 1…4 are no longer held: 11, 12 are missing, 21…25 wait too
    first = ledger.Position(
        "gw-1",
        "00ff00ff",
        7,
        [(1, 10), (13, 20)],
        oldest=5,
        produced=25,
        stored=15,
        duplicates=3,
        quarantined=2,
        events=1,
        gone=0,
        last_up_at=now - 2000,
    )
    older = ledger.Position(
        "gw-1", "00aa00aa", 7, [(1, 6)], oldest=7, produced=6, stored=5, gone=1, last_up_at=now - 99_000
    )
    return [first, older]


def _statuses(now: int) -> list[ledger.StatusRow]:
    health = {
        "waiting": 7,
        "oldest_at": now - 60_000,
        "outbox": "ok",
        "outbox_reason": "",
        "counters": {"polls": 40, "polls_failed_total": 2, "bad name": 3},
    }
    return [
        ledger.StatusRow("gw-1", online=True, state_at=now - 90_000, health_at=now - 1000, health=health),
        ledger.StatusRow("gw-9", online=False, state_at=now - 5000),
    ]


def _events(now: int) -> list[ledger.EventRow]:
    failed = [
        ledger.EventRow(
            "gw-1",
            "00ff00ff",
            n,
            f"d{n}",
            T0 + n * HOUR,
            T0 + n * HOUR + 1,
            "read_failed",
            "W-0001",
            "timeout",
            n,
            "no answer",
        )
        for n in (1, 2, 3)
    ]
    return [*failed, ledger.EventRow("gw-9", "", 0, "s1", now, now, "security", text="speaks for gw-1")]


def _refused(now: int) -> list[ledger.QuarantineRow]:
    return [
        ledger.QuarantineRow("gw-1", "q1", now - 3000, "unknown_meter", "no such meter", b'{"meter":"X"}', meter="X"),
        ledger.QuarantineRow("gw-1", "q2", now - 2000, "not_json", "bad byte", b"\x00\xff" * 40_000),
    ]
