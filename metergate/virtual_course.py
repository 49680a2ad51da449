"""The course of one gateway's life in a virtual house: what its plan asks for, and what it sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.drivers.serial_bus import SerialBus
from gateway.service import Gateway
from simulators.scenario_events import BUS_KINDS, LINE_KINDS, LINK_KINDS, SERIAL, Event

if TYPE_CHECKING:
    from metergate.virtual import VirtualHouse


class Course:
    """Made when the gateway is made: the first moments of its polls are known then."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._words = {m.bus.name: _word(m.profile.dialect.protocol) for m in gateway.plan.meters if m.bus.is_serial}
        self._polls = [
            (poll.meter.meter, poll.phase, poll.meter.interval_s, len(poll.steps))
            for bus in gateway.poller.buses.values()
            for poll in bus.polls
        ]
        self._left: Counter[str] = Counter()

    def end(self) -> None:
        """No more polls: what is under way is finished, what waits for its bus is left out."""
        for bus in self.gateway.poller.buses.values():
            for poll in bus.ready:
                self._left[poll.meter.meter] += len(poll.steps)
        self.gateway.poller.adopt(replace(self.gateway.plan, meters=()))

    def planned(self, until: float) -> Counter[str]:
        """Return by meter the requests that were due until then [s of the monotonic clock]."""
        found: Counter[str] = Counter()
        for meter, first, every, steps in self._polls:
            if first <= until:
                found[meter] = (int((until - first) // every) + 1) * steps - self._left[meter]
        return found

    def sent(self) -> Counter[str]:
        """Return the requests that went out, by protocol."""
        buses = self.gateway.poller.buses.values()
        found: Counter[str] = Counter()
        for bus in buses:
            if isinstance(bus.link, SerialBus):
                found[self._words[bus.file.name]] += _asked(bus.link)
        tcp = self.gateway.poller.counters["requests"] - found.total()
        return found + Counter({"modbus-tcp": tcp})

    def received(self) -> int:
        """Return the messages of MQTT meters that came."""
        pushed = self.gateway.pushed
        return 0 if pushed is None else pushed.session.counters["received"]


def on_wires(house: VirtualHouse) -> dict[str, dict[str, Any]]:
    """Return by protocol what was planned, sent and seen at the other end.

    comparable: nothing happened there that lets requests vanish on their way, or lets a driver ask more than planned.
    """
    return {
        protocol: {
            "planned": frames.planned,
            "sent": frames.sent,
            "seen": frames.seen,
            "comparable": not any(_is_unequal(house, protocol, event) for event in house.scenario.event),
        }
        for protocol, frames in sorted(house.wires.items())
        if frames.planned
    }


def _is_unequal(house: VirtualHouse, protocol: str, event: Event) -> bool:
    here = {meter.group.protocol for meter in house.meters if meter.bus == event.bus}
    here |= {meter.group.protocol for meter in house.meters if any(event is each for each, _, _ in meter.events)}
    if protocol in SERIAL:
        return protocol in here and event.kind in LINE_KINDS | BUS_KINDS | LINK_KINDS
    if protocol == "mqtt":
        return event.kind in ("broker_off", "gateway_off", "gateway_kill") or (
            protocol in here and event.kind in LINE_KINDS | BUS_KINDS
        )
    return protocol in here and event.kind == "half_open"


def _asked(link: SerialBus) -> int:
    return sum(count.asked for count in link.counts.meters.values())


def _word(protocol: str) -> str:
    """The protocol in the words of a scenario."""
    return "modbus-rtu" if protocol == "modbus" else "dlt645" if protocol.startswith("dlt645") else protocol
