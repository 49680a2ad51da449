"""A small house for tests of the pipeline: real registry, real store, a clock moved by hand, and a list for a broker.

`House.restart` throws away everything that lives in memory, as a crash does; files stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ingest.pipeline import Pipeline
from ingest.store_sqlite import SqliteStore
from metering.clock import ManualClock
from metering.messages import Ack, Notice, Up, decode_ack, decode_notice, encode, topic
from metering.mqtt import Delivery
from metering.reading import Event, Reading, Row
from metering.store import ReadingStore
from registry import ledger as books
from registry.database import Database
from registry.models import Closing, EventRecord, Gateway, Installation, Meter, Quarantine, UsagePoint
from tests.registries import empty_registry

MINUTE = 60_000
HOUR = 3_600_000
DAY = 86_400_000
NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z, which is 08:00 in Shanghai
EPOCH = "00ff00ff"


@dataclass
class Sent:
    """What ingest published."""

    acks: list[tuple[str, Ack]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[None]:
        if topic.endswith("/ack"):
            assert (qos, retain) == (1, False)
            self.acks.append((topic.split("/")[3], decode_ack(payload)))
        else:
            assert qos == 0
            self.notices.append(decode_notice(payload))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class House:
    """gw-1 has M1 and M2, gw-2 has M3; all in Shanghai, billed by volume."""

    def __init__(self, folder: Path, *, wrap: Callable[[ReadingStore], ReadingStore] = lambda store: store) -> None:
        self.folder = folder
        self.wrap = wrap
        self.clock = ManualClock(NOW)
        self.database = empty_registry(folder / "registry.db")
        with self.database.begin() as connection:
            connection.execute(sa.insert(Gateway), [{"id": "gw-1"}, {"id": "gw-2"}])
        for meter, gateway in (("M1", "gw-1"), ("M2", "gw-1"), ("M3", "gw-2")):
            self.install(meter, gateway)
        self.fault: Callable[[str], None] = lambda step: None
        self.open()

    def open(self) -> None:
        self.sent = Sent()
        self.store = self.wrap(SqliteStore(self.folder / "readings.db", mode="write"))
        self.pipeline = Pipeline(
            self.sent, self.store, self.database, clock=self.clock, fault=lambda step: self.fault(step)
        )

    def restart(self) -> None:
        self.close()
        self.database = Database(f"sqlite:///{self.folder / 'registry.db'}")
        self.open()

    def close(self) -> None:
        assert self.pipeline.close(10)
        self.store.close()
        self.database.close()

    def install(self, meter: str, gateway: str) -> None:
        with self.database.begin() as connection:
            connection.execute(
                sa.insert(UsagePoint), [{"id": f"U-{meter}", "medium": "water", "tz": "Asia/Shanghai"}]
            )
            connection.execute(
                sa.insert(Meter), [{"id": meter, "medium": "water", "quantity": "volume", "gateway_id": gateway}]
            )
            installed = {"meter_id": meter, "usage_point_id": f"U-{meter}", "installed_at": 0}
            connection.execute(sa.insert(Installation), [installed])

    def run(self, scenario: Callable[[], Any]) -> None:
        """Start the pipeline, play, stop the threads."""

        async def play() -> None:
            await self.pipeline.start()
            await scenario()

        try:
            asyncio.run(play())
        finally:
            self.close()

    # -- what the tests look at ----------------------------------------------------------------------------------

    def stored(self) -> dict[tuple[str, int], dict[str, int]]:
        return {
            (r.meter, r.read_at): {str(q): v for q, v in r.values.items()} for r in self.store.range(None, 0, 2**60)
        }

    def quarantine(self) -> list[tuple[str, str, int | None]]:
        """(gateway, reason, seq) in order of arrival."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(Quarantine.__table__).order_by(Quarantine.id)).all()
        return [(row.gateway, row.reason, row.seq) for row in rows]

    def quarantined_bytes(self) -> list[bytes]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(Quarantine.raw).order_by(Quarantine.id)).scalars())

    def events(self, kind: str) -> list[tuple[str, str]]:
        """(gateway, cause) of events of one kind."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(EventRecord.gateway, EventRecord.cause)
                .where(EventRecord.kind == kind)
                .order_by(EventRecord.id)
            ).all()
        return [(row.gateway, row.cause) for row in rows]

    def position(self, gateway: str = "gw-1", epoch: str = EPOCH) -> books.Position:
        with self.database.read() as connection:
            return books.load_positions(connection)[gateway, epoch]

    def latest(self) -> dict[str, tuple[int, dict[str, int]]]:
        with self.database.read() as connection:
            return {meter: (row.read_at, row.values) for meter, row in books.load_latest(connection).items()}

    def closings(self) -> dict[tuple[str, str], tuple[int, int]]:
        with self.database.read() as connection:
            rows = connection.execute(sa.select(Closing.__table__)).mappings().all()
        return {(row["meter"], row["day"]): (row["read_at"], row["index"]) for row in rows}


def reading(meter: str, at: int, volume: int, **more: Any) -> Reading:
    values = {"volume": volume, **more.pop("values", {})}
    return Reading(meter, at, values, **more)


def failed(meter: str, at: int) -> Event:
    return Event("read_failed", at, meter=meter, cause="timeout")


def up(
    seq: int, rows: Sequence[Row], *, gateway: str = "gw-1", epoch: str = EPOCH, oldest: int = 1, **more: Any
) -> Delivery:
    """A delivery as a gateway's uplink makes it."""
    produced = more.pop("produced", seq + len(rows) - 1)
    message = Up(1, gateway, epoch, seq, oldest, produced, NOW, list(rows), **more)
    return Delivery(topic(gateway, "up"), encode(message), 1, False)


def raw(payload: bytes, *, gateway: str = "gw-1", retain: bool = False, name: str | None = None) -> Delivery:
    """A delivery of any bytes on any topic."""
    return Delivery(topic(gateway, "up") if name is None else name, payload, 1, retain)
