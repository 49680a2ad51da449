"""What the office is told of the buses: the budget, each meter's counts, and no more often than a modem bears."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway.meter_poll import Backoff
from gateway.office_report import EVERY_S, OfficeReport, bus_healths
from gateway.plan import Plan
from gateway.poller import Poller
from metering.clock import ManualClock
from metering.messages import Health, decode_health, encode
from tests.gateway.drivers.buses import plan_of

PLAIN = Health(1, "gw-t", "00ff00ff", 5, 0, 0, 0, 0, None, "ok", "", 0, 0, {})


def _plan(count: int) -> Plan:
    """Meters of one model on one pair, each read once a minute."""
    meters = [
        {"meter": f"G-{unit}", "bus": "stair", "profile": "fuxin-corrector", "unit": unit, "interval_s": 60.0}
        for unit in range(1, count + 1)
    ]
    return plan_of({"name": "stair", "kind": "serial", "device": "/dev/nowhere", "baud": 9600}, meters=meters)


def _poller(plan: Plan, clock: ManualClock) -> Poller:
    rng, backoff = random.Random(5), Backoff()
    return Poller(plan, clock=clock, rng=rng, backoff=backoff, put=lambda _: True, pressure=lambda: 0.0)


def test_buses_go_along_once_in_five_minutes_and_can_be_read_again() -> None:
    async def scenario() -> None:
        clock, plan = ManualClock(), _plan(30)
        buses, office = list(_poller(plan, clock).buses.values()), OfficeReport(clock)
        assert office.add(PLAIN, buses, plan).buses
        assert office.add(PLAIN, buses, plan).buses is None
        told = []
        for second in range(1, 1200):
            clock.pause(1.0)
            again = office.add(PLAIN, buses, plan)
            told += [second] if again.buses else []
        # after 15 s, 30 s, 60 s, 120 s, 240 s, and then every five minutes
        assert told == [15, 45, 105, 225, 465, 765, 1065]
        clock.pause(EVERY_S)
        again = office.add(PLAIN, buses, plan)
        assert again.buses
        assert (again.buses[0].bus, again.buses[0].kind, again.buses[0].counts_s) == (
            "stair",
            "serial",
            1199 + EVERY_S,
        )
        assert decode_health(encode(again)) == again

    asyncio.run(scenario())


def test_a_meter_in_trouble_stands_first_and_the_plan_says_what_a_sweep_takes() -> None:
    async def scenario() -> None:
        plan = _plan(30)
        (bus,) = _poller(plan, ManualClock()).buses.values()
        bus.polls[17].failures, bus.polls[17].since = 4, 1234
        (said,) = bus_healths([bus], plan, counts_s=9.0)
        assert (said.meters[0].meter, said.meters[0].failures, said.meters[0].since) == ("G-18", 4, 1234)
        assert (len(said.meters), said.unnamed) == (30, 0)
        # meters of one model cost the same: the sweep is 30 times one read, the load is the sweep in a minute
        one = said.meters[0].planned_s
        assert said.sweep_s == pytest.approx(30 * one, abs=0.01)
        assert said.load == pytest.approx(30 * one / 60, abs=0.001)

    asyncio.run(scenario())


def test_more_meters_than_a_message_holds_are_counted() -> None:
    async def scenario() -> None:
        plan = _plan(247)
        buses = list(_poller(plan, ManualClock()).buses.values())
        said = bus_healths(buses * 2, plan, counts_s=9.0)
        assert [(len(bus.meters), bus.unnamed) for bus in said] == [(200, 47), (200, 47)]
        full = Health(1, "gw-t", "00ff00ff", 5, 0, 0, 0, 0, None, "ok", "", 0, 0, {}, "1.0", "7", said)
        assert len(encode(full)) < 64 * 1024

    asyncio.run(scenario())


def test_where_several_talk_at_once_nobody_counts_the_time() -> None:
    async def scenario() -> None:
        meters = [{"meter": "G-1", "bus": "hall", "profile": "fuxin-corrector", "unit": 1, "interval_s": 5.0}]
        plan = plan_of({"name": "hall", "kind": "modbus-tcp", "host": "127.0.0.1", "port": 1502}, meters=meters)
        (said,) = bus_healths(_poller(plan, ManualClock()).buses.values(), plan, counts_s=9.0)
        assert (said.kind, said.up, said.load, said.sweep_s) == ("modbus-tcp", False, None, None)
        assert (said.meters[0].meter, said.meters[0].interval_s, said.meters[0].asked) == ("G-1", 5.0, 0)

    asyncio.run(scenario())
