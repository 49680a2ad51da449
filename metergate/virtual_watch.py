"""Looking on at a virtual house while it runs: how far it is, what has happened since, and where it takes orders."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Final

import sqlalchemy as sa

from metergate.console import emit, say
from metergate.virtual import VirtualHouse
from metering.clock import SystemClock, rfc3339
from registry.models_findings import FindingRecord
from simulators.scenario import Scenario
from simulators.scenario_events import Event

CONTROL_FILE: Final = "farm.json"
"""In the folder of an attended run: where `metergate inject --folder` finds its control port."""
_SHOWN: Final = 5


class Onlooker:
    """Called by the house from time to time. tells: it speaks to a person. control: it says where orders go."""

    def __init__(self, story: Scenario, *, tells: bool, control: bool) -> None:
        self._story, self._tells, self._control = story, tells, control
        self._host = SystemClock()
        self._began = self._host.monotonic()
        self._begun: set[int] = set()
        self._known: set[str] = set()

    def __call__(self, house: VirtualHouse) -> None:
        if self._control:
            self._control = False
            _announce(house)
        if self._tells:
            say(self._how_far(house))
            for line in (*self._happened(house), *self._found(house)):
                say(f"    {line}")

    def _how_far(self, house: VirtualHouse) -> str:
        done_ms = house.clock.now_ms() - self._story.start_ms
        share = done_ms / (self._story.end_ms - self._story.start_ms)
        took = self._host.monotonic() - self._began
        left = f", about {took / share - took:.0f} s left" if share > 0 else ""
        polls = sum(gateway.poller.counters["polls"] for gateway in house.gateways.values())
        waiting = sum(gateway.outbox.held.count for gateway in house.gateways.values())
        return (
            f"{rfc3339(house.clock.now_ms())} {share:.0%}: {polls} polls, {waiting} rows under way, "
            f"{house.orders_opened} orders{left}"
        )

    def _happened(self, house: VirtualHouse) -> list[str]:
        """Say which events of the script have begun since the last look."""
        now = house.clock.now_ms()
        new = [
            (number, event)
            for number, event in enumerate(self._story.event)
            if number not in self._begun and self._story.span(event)[0] <= now
        ]
        self._begun |= {number for number, _ in new}
        return [
            f"begins: {event.kind} at {_place(event)}" + (f" ({event.count} meters)" if event.count else "")
            for _, event in new
        ]

    def _found(self, house: VirtualHouse) -> list[str]:
        """Say what the rules have found since the last look."""
        columns = (FindingRecord.key, FindingRecord.kind, FindingRecord.meter, FindingRecord.detected_at)
        with house.registry() as database, database.read() as connection:
            rows = connection.execute(
                sa.select(*columns).order_by(FindingRecord.detected_at, FindingRecord.key)
            ).all()
        new = [row for row in rows if row.key not in self._known]
        self._known |= {row.key for row in new}
        lines = [f"found: {row.kind} at {row.meter or row.key} {rfc3339(row.detected_at)}" for row in new[:_SHOWN]]
        return [*lines, f"found: {len(new) - _SHOWN} more"] if len(new) > _SHOWN else lines


def _place(event: Event) -> str:
    return event.bus or event.gateway or event.group or ", ".join(event.meters) or "the house"


def _announce(house: VirtualHouse) -> None:
    """Say where orders are taken, and let Ctrl-C end the story early."""
    said = {"event": "listening", "control_port": house.fleet.tcp.control_port, "meters": len(house.meters)}
    (house.folder / CONTROL_FILE).write_text(json.dumps(said) + "\n", "utf-8")
    emit(json.dumps(said))
    sys.stdout.flush()
    say(f"orders: metergate inject … --folder {house.folder}")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, house.end_early)
