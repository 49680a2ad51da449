"""A registry and a store under an anomaly service, fed as ingest feeds them, on a wall clock that a test moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from anomaly.city import City
from anomaly.settings import AnomalySettings
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.quantities import Quantity
from metering.reading import Reading
from registry import watch
from registry.models import Bus, Gateway, Installation, Meter, UsagePoint
from registry.models_findings import FindingHistory, FindingRecord
from tests.registries import empty_registry

HOUR = 3600
BILLED: dict[str, Quantity] = {"gas": "volume", "water": "volume", "electricity": "energy_import"}


class WallClock(SystemClock):
    """Sleeps in real time, while the wall clock stands wherever the test puts it."""

    def __init__(self, now_s: int) -> None:
        self.now_s: float = now_s

    def now_ms(self) -> int:
        return round(self.now_s * 1000)


@dataclass
class Site:
    """One city. `city()` starts a service over it, as often as one likes."""

    folder: Path
    clock: WallClock
    settings: AnomalySettings = field(default_factory=lambda: AnomalySettings(settle_s=0.0))

    def __post_init__(self) -> None:
        self.database = empty_registry(self.folder / "registry.db")
        self.store = SqliteStore(self.folder / "readings.db", mode="write")
        self.gateway_of: dict[str, str] = {}

    def gateways(self) -> list[str]:
        """All that a meter hangs on."""
        return sorted(set(self.gateway_of.values()))

    def add(self, meters: Sequence[Any], gateway: str = "gw-1") -> None:
        """Enter meters (`anomaly.meters.Meter`) into the books."""
        with self.database.begin() as connection:
            if not connection.execute(sa.select(Gateway.id).where(Gateway.id == gateway)).first():
                connection.execute(sa.insert(Gateway), [{"id": gateway}])
                connection.execute(sa.insert(Bus), [{"gateway_id": gateway, "name": "line-1", "kind": "modbus-tcp"}])
            bus = connection.execute(sa.select(Bus.id).where(Bus.gateway_id == gateway)).scalar_one()
            for meter in meters:
                place = {"id": f"U-{meter.meter_id}", "medium": meter.medium, "tz": meter.tz}
                place |= {"customer_class": meter.customer_class, "district": meter.district}
                connection.execute(sa.insert(UsagePoint), [place])
                device = {"id": meter.meter_id, "medium": meter.medium, "quantity": BILLED[meter.medium]}
                device |= {"index_digits": meter.index_digits, "resolution": meter.resolution, "bus_id": bus}
                device |= {"qmax": meter.qmax_per_h, "interval_s": meter.interval_s, "gateway_id": gateway}
                device |= {"commissioned_at": 0 if meter.commissioned else None}
                stay = {"meter_id": meter.meter_id, "usage_point_id": place["id"]}
                stay |= {"installed_at": meter.replaced_s * 1000, "removed_at": meter.until_s * 1000 or None}
                if meter.replaced_s:  # the one that hung there before, see `device_at`
                    old = {"meter_id": f"{meter.meter_id}-old", "installed_at": 0, "removed_at": stay["installed_at"]}
                    connection.execute(sa.insert(Meter), [device | {"id": old["meter_id"]}])
                    connection.execute(sa.insert(Installation), [stay | old])
                    self.gateway_of[str(old["meter_id"])] = gateway
                connection.execute(sa.insert(Meter), [device])
                connection.execute(sa.insert(Installation), [stay])
                self.gateway_of[meter.meter_id] = gateway

    @staticmethod
    def device_at(meter: Any, at_s: int) -> str:
        """Id of the meter that hung at the place then [s since 1970]."""
        return f"{meter.meter_id}-old" if at_s < meter.replaced_s else str(meter.meter_id)

    def take(self, readings: Sequence[Reading]) -> None:
        """Store readings and note them in the log, in ingest's order."""
        assert set(self.store.write(readings)) <= {None}
        with self.database.begin() as connection:
            watch.note_touched(connection, readings, self.clock.now_ms())

    def city(self) -> City:
        """Start a service (whatever another one remembers is in the registry)."""
        reader = SqliteStore(self.folder / "readings.db", mode="read")
        city = City(self.settings, database=self.database, store=reader, clock=self.clock)
        city.start()
        return city

    def findings(self) -> list[dict[str, Any]]:
        """What the registry holds, in a fixed order."""
        table = FindingRecord.__table__
        with self.database.read() as connection:
            rows = connection.execute(sa.select(table).order_by(FindingRecord.key)).mappings()
            return [dict(row) for row in rows]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.findings() if row["kind"] == kind]

    def history(self, number: int) -> list[str]:
        """Events of one finding in order."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(FindingHistory.event)
                .where(FindingHistory.finding_id == number)
                .order_by(FindingHistory.number)
            )
            return list(rows.scalars())

    def close(self) -> None:
        self.store.close()
        self.database.close()
