"""The registry of a virtual house: its meters, imported as a utility's file is, and exchanges as they happen."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

from gateway.profile_mqtt import load_mqtt_profiles
from metering.errors import MetergateError
from registry.books import import_meters
from registry.installations import exchange
from registry.roles import service
from simulators.scenario_curve import Exchange
from simulators.scenario_fleet import SimMeter

if TYPE_CHECKING:
    from metergate.virtual import VirtualHouse

_COLUMNS: Final = (
    "meter_id", "medium", "customer_class", "profile", "gateway", "bus", "bus_kind", "host", "port", "address",
    "interval_s", "install_date", "commission_date", "index_digits", "resolution", "qmax_per_h", "tz", "district",
)  # fmt: skip


def fill_books(house: VirtualHouse) -> None:
    """Import the meters, as of the start of the run. Raises: MetergateError."""
    billed = {name: p.index.quantity for name, p in house.profiles.items() if p.index.quantity}
    billed |= {name: p.index for name, p in load_mqtt_profiles().items()}
    with house.registry() as database:
        database.upgrade()
        with database.begin() as connection:
            text = _meters_csv(house)
            result = import_meters(
                connection, text, billed=billed, actor=service("simulate"), now=house.clock.now_ms()
            )
    if result.bad:
        raise MetergateError(f"the scenario's own meters are refused: {result.bad[0].reason}")


def record_exchange(house: VirtualHouse, meter: SimMeter, swap: Exchange) -> None:
    """Write an exchange into the books as the fitter reads it off: old final index, new start index, by digits."""
    with house.registry() as database, database.begin() as connection:
        exchange(
            connection, service("simulate"), meter.name, old_meter=meter.name, new_meter=meter.name, at=swap.at,
            final_index=house.fleet.shown(meter.name, swap.final), start_index=swap.start, now=house.clock.now_ms(),
        )  # fmt: skip


def _meters_csv(house: VirtualHouse) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS)
    writer.writeheader()
    for meter in house.meters:
        place = house.fleet.place(meter)
        writer.writerow(
            {
                "meter_id": meter.name,
                "medium": meter.group.medium,
                "customer_class": meter.group.customer_class,
                "profile": meter.group.profile,
                "gateway": meter.group.gateway,
                "bus": meter.bus,
                "bus_kind": place.bus_kind,
                "host": place.host,
                "port": place.port,
                "address": place.address,
                "interval_s": meter.group.interval_s,
                "install_date": meter.facts.install_date.isoformat(),
                "commission_date": meter.facts.install_date.isoformat() if meter.facts.commissioned else "",
                "index_digits": house.digits.get(meter.group.profile) or "",
                "resolution": "0.01",
                "qmax_per_h": f"{meter.facts.qmax_per_h:g}",
                "tz": house.scenario.tz,
                "district": meter.group.district,
            }
        )
    return out.getvalue()
