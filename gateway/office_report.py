"""What the office is told of a gateway's buses, beside its health: time budget, and what each meter's reads came to.

It goes along with a health message every five minutes: with 400 meters it has some 40 kB, which a modem should not
carry every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.bus_budget import BusBudget, budgets
from gateway.drivers.serial_bus import SerialBus
from gateway.meter_poll import MeterPoll
from gateway.plan import Plan
from gateway.poller import Bus
from metering.clock import Clock
from metering.messages import BusHealth, Health, MeterOnBus

EVERY_S: Final = 300.0
FIRST_S: Final = 15.0
"""The first pause, doubled until it is EVERY_S: nobody may listen yet when gateway and office start together."""
MOST_METERS: Final = 400
"""Meters named in one message; the rest is counted."""


class OfficeReport:
    """Adds the buses to a health message when it is time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._due = self._began
        self._pause = FIRST_S

    def add(self, health: Health, buses: Iterable[Bus], plan: Plan) -> Health:
        """Return the message, with the buses when the last time is long ago."""
        now = self._clock.monotonic()
        if now < self._due:
            return health
        self._due = now + self._pause
        self._pause = min(EVERY_S, 2 * self._pause)
        return msgspec.structs.replace(health, buses=bus_healths(buses, plan, counts_s=now - self._began))


def bus_healths(buses: Iterable[Bus], plan: Plan, *, counts_s: float) -> list[BusHealth]:
    """Return what is known of each bus. counts_s: [s] for which their counts run."""
    planned = {budget.bus: budget for budget in budgets(plan)}
    shown = list(buses)[:256]
    room = MOST_METERS // max(1, len(shown))
    return [_bus(bus, planned.get(bus.file.name), counts_s, room) for bus in shown]


def _bus(bus: Bus, budget: BusBudget | None, counts_s: float, room: int) -> BusHealth:
    costs = {cost.meter: cost.seconds for cost in budget.meters} if budget else {}
    lines = [_meter(bus, poll, costs.get(poll.meter.meter, 0.0)) for poll in bus.polls]
    lines.sort(key=lambda line: (not line.failures, -_troubles(line), -line.busy_s, line.meter))
    return BusHealth(
        bus.file.name,
        bus.file.kind,
        bus.link.up,
        round(counts_s, 1),
        None if budget is None else round(budget.load, 4),
        None if budget is None else round(budget.sweep_s, 3),
        lines[:room],
        max(0, len(lines) - room),
    )


def _troubles(line: MeterOnBus) -> int:
    return line.silent + line.late + line.damaged + line.foreign + line.refused


def _meter(bus: Bus, poll: MeterPoll, planned_s: float) -> MeterOnBus:
    meter = poll.meter
    facts = (meter.meter[:64], str(meter.bus_address)[:64], float(meter.interval_s), round(planned_s, 4))
    state = (poll.failures, poll.since if poll.failures else 0)
    if not isinstance(bus.link, SerialBus):
        return MeterOnBus(*facts, 0.0, 0, 0, 0, 0, 0, 0, 0, *state, 0)
    count = bus.link.counts.of(meter.bus_address)
    return MeterOnBus(
        *facts, round(count.busy_s, 3), count.asked, count.answered, count.silent, count.late, count.damages,
        count.foreign, count.refused, *state, count.answered_at,
    )  # fmt: skip
