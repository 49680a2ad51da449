"""What a sweep of a serial bus costs, from baud rate, frame sizes, turnaround and silence: does the plan fit?

One talks at a time on a pair of wires, so the costs add up. A part of the time is kept for meters that do not answer
(their probing is bounded to that share, see the poller's back-off); what is asked on demand goes before the sweep and
lives on the same reserve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.drivers.serial_port import Line
from gateway.items import ItemRequest, wire_sizes
from gateway.links import line_of
from gateway.plan import BusFile, Plan, PlannedMeter
from gateway.requests import Request

RESERVE: Final = 0.1
"""Share of a bus's time for silent meters and requests on demand; the default of `silent_share`."""
_OUR_S: Final = 0.002
"""Between an answer's last byte and our next request, beside the silence: measured 1 ms, see the benchmark."""
_RTU_REQUEST: Final = 8
_RTU_ANSWER: Final = 5
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class MeterCost:
    """One meter's poll. seconds: of the bus's time; share: of all time, at its interval."""

    meter: str
    seconds: float
    interval_s: float

    @property
    def share(self) -> float:
        """Part of the bus's time."""
        return self.seconds / self.interval_s

    def __str__(self) -> str:
        return f"{self.meter} {self.seconds:.2f} s every {self.interval_s:g} s ({self.share:.1%})"


@dataclass(frozen=True, slots=True)
class BusBudget:
    """One serial bus. load: part of the time that its meters need, 1.0 is all of it."""

    bus: str
    line: Line
    meters: tuple[MeterCost, ...]

    @property
    def sweep_s(self) -> float:
        """[s] to read every meter once."""
        return sum(cost.seconds for cost in self.meters)

    @property
    def load(self) -> float:
        """Part of the bus's time that reading takes at the planned intervals."""
        return sum(cost.share for cost in self.meters)

    @property
    def fits(self) -> bool:
        """True when the intervals can be met and the reserve stays free."""
        return self.load <= 1 - RESERVE and all(cost.seconds <= cost.interval_s for cost in self.meters)

    def __str__(self) -> str:
        return (
            f'bus "{self.bus}" at {self.line}: {len(self.meters)} meters, a sweep takes {self.sweep_s:.1f} s, '
            f"load {self.load:.0%}"
        )

    def fault(self) -> str:
        """Say what does not fit, which meters cost most and what would fit."""
        dearest = sorted(self.meters, key=lambda cost: -cost.share)[:_NAMED]
        factor = self.load / (1 - RESERVE)
        return (
            f"{self}, {1 - RESERVE:.0%} is allowed ({RESERVE:.0%} is kept for silent meters and demands); "
            f"dearest: {'; '.join(map(str, dearest))}; intervals {factor:.1f} times as long would fit, "
            "or a faster line, or fewer meters on this bus"
        )


def budgets(plan: Plan) -> list[BusBudget]:
    """Return the budget of every serial bus of a plan."""
    return [
        BusBudget(bus.name, line_of(bus), tuple(_cost(meter) for meter in plan.meters if meter.bus is bus))
        for bus in plan.buses
        if bus.is_serial
    ]


def too_dense(plan: Plan) -> list[str]:
    """Say of every serial bus whose intervals cannot be met what does not fit; empty when all do."""
    return [budget.fault() for budget in budgets(plan) if not budget.fits]


def poll_s(requests: tuple[Request | ItemRequest, ...], bus: BusFile) -> float:
    """Return [s] of the bus's time that one poll takes when the meter answers at once after its turnaround."""
    line, total = line_of(bus), 0.0
    for request in requests:
        asked, answered, exchanges = _sizes(request)
        pauses = exchanges * (bus.turnaround_s + line.silence_s + _OUR_S)
        total += line.wire_s(asked + answered) + pauses
    return total


def _cost(meter: PlannedMeter) -> MeterCost:
    return MeterCost(meter.meter, poll_s(meter.requests, meter.bus), meter.interval_s)


def _sizes(request: Request | ItemRequest) -> tuple[int, int, int]:
    if isinstance(request, ItemRequest):
        return wire_sizes(request)
    return _RTU_REQUEST, _RTU_ANSWER + 2 * request.count, 1
