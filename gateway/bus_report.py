"""What the gateway tells of its serial buses: per meter answered, late, damaged, foreign, and its share of the time.

Written as buses.json beside the outbox, where `metergate bus` reads it: a port belongs to the gateway that polls it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.drivers.serial_bus import SerialBus
from gateway.poller import Bus
from gateway.protocols.dlt645 import EVERYBODY
from metering.clock import Clock

_VERSION = 1


class MeterReport(msgspec.Struct):
    """One meter on its bus. busy_s: [s] of the bus's time since start. answered_at: [ms UTC], 0 when never."""

    meter: str
    address: str
    asked: int
    answered: int
    silent: int
    refused: int
    late: int
    foreign: int
    damaged: int
    lost: int
    busy_s: float
    answered_at: int


class BusReport(msgspec.Struct):
    """One serial bus. unasked: [bytes] that came while nobody was asked. others: addresses that are not planned."""

    bus: str
    port: str
    up: bool
    opened: int
    unasked: int
    echoes: int
    meters: list[MeterReport]
    others: list[str]


class BusesReport(msgspec.Struct):
    """All serial buses of a gateway. at, since: [ms UTC]."""

    v: int
    gateway: str
    at: int
    since: int
    buses: list[BusReport]


def report(gateway: str, buses: Iterable[Bus], *, now_ms: int, since_ms: int) -> BusesReport:
    """Return what is known of the serial buses among these."""
    found = [_bus(bus, bus.link) for bus in buses if isinstance(bus.link, SerialBus)]
    return BusesReport(_VERSION, gateway, now_ms, since_ms, found)


class ReportWriter:
    """Writes buses.json in one piece, when there are serial buses at all."""

    def __init__(self, gateway: str, path: Path, clock: Clock) -> None:
        self._gateway = gateway
        self._path = path
        self._clock = clock
        self._since = clock.now_ms()

    def save(self, buses: Iterable[Bus]) -> None:
        """Write; a disk that refuses is told by health.json."""
        made = report(self._gateway, buses, now_ms=self._clock.now_ms(), since_ms=self._since)
        if not made.buses:
            return
        fresh = self._path.with_suffix(".new")
        with suppress(OSError):
            fresh.write_bytes(msgspec.json.encode(made))
            os.replace(fresh, self._path)


def read_report(path: Path) -> BusesReport:
    """Return what a gateway wrote. Raises: OSError, msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=BusesReport)


def _bus(bus: Bus, link: SerialBus) -> BusReport:
    counts = link.counts
    planned = {poll.meter.bus_address: poll.meter.meter for poll in bus.polls}
    meters = [_meter(name, address, link) for address, name in planned.items()]
    others = sorted(counts.meters.keys() - planned.keys() - {EVERYBODY})
    return BusReport(bus.file.name, link.name, link.up, counts.opened, counts.unasked, counts.echoes, meters, others)


def _meter(name: str, address: str, link: SerialBus) -> MeterReport:
    count = link.counts.of(address)
    return MeterReport(
        name, address, count.asked, count.answered, count.silent, count.refused, count.late, count.foreign,
        count.damages, count.lost, round(count.busy_s, 3), count.answered_at,
    )  # fmt: skip
