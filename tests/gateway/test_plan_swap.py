"""A plan changes under load: what the meters said before, during and after is what was kept, nothing is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from gateway.meter_poll import Backoff
from gateway.poller import Poller
from metering.clock import SystemClock
from metering.reading import Event, Reading, Row
from simulators.answer_log import read_answers
from simulators.bus_settings import BusFaultSettings
from tests.gateway.drivers.buses import farm_of, plan_of, running, until

METERS: list[dict[str, Any]] = [
    {"meter": f"W-{i}", "profile": "water-cjt188", "address": f"{805_000_000 + i:014d}"} for i in range(1, 7)
]


def _bus(farm: Any, name: str) -> dict[str, Any]:
    host, _, port = farm.path(name).rpartition(":")
    return {"name": name, "kind": "serial-tcp", "host": host, "port": int(port), "baud": 115_200, "timeout_s": 5.0}


def test_plans_that_change_under_load_lose_nothing(tmp_path: Path) -> None:
    """Two buses, six meters as fast as they go; thirty plans move, drop and slow meters down at random moments.

    The judge is the simulator's log: every answer with an index that a meter gave is in exactly one reading, but for
    the one that was on the wire when its bus was taken away.
    """
    log, rows, chance = tmp_path / "answers.tsv", list[Row](), random.Random(4)

    def put(row: Row) -> bool:
        rows.append(row)
        return True

    async def scenario() -> int:
        line = {"kind": "tcp", "baud": 115_200, "pace": False, "turnaround_s": 0.002}
        lines = ({**line, "name": "a", "meter": METERS[:3]}, {**line, "name": "b", "meter": METERS[3:]})
        farm = farm_of(SystemClock(), *lines, log=log)
        closed = 0
        async with running(farm):
            poller: Poller | None = None
            for _ in range(30):
                names = {name for name in ("a", "b") if chance.random() < 0.8} or {"a"}
                meters = [
                    {**meter, "bus": bus, "interval_s": chance.choice((0.02, 0.05, 0.1))}
                    for bus, group in (("a", METERS[:3]), ("b", METERS[3:]))
                    for meter in group
                    if bus in names and chance.random() < 0.8
                ]
                plan = plan_of(*(_bus(farm, name) for name in sorted(names)), meters=meters)
                if poller is None:
                    poller = Poller(
                        plan, clock=SystemClock(), rng=chance, backoff=Backoff(), put=put, pressure=lambda: 0.0
                    )
                    work = asyncio.ensure_future(poller.run())
                else:
                    closed += len(set(poller.buses) - names)
                    poller.adopt(plan)
                wanted = len(rows) + 2 * len(meters)
                await until(lambda n=wanted: len(rows) >= n)
            assert poller is not None
            assert poller.meters_silent == 0
            poller.adopt(plan_of(_bus(farm, "a"), _bus(farm, "b"), meters=[]))
            await asyncio.sleep(0.3)  # what is on the wire arrives
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        return closed

    closed = asyncio.run(scenario())
    readings = [row for row in rows if isinstance(row, Reading)]
    assert [row for row in rows if isinstance(row, Event)] == []
    answered = [answer for answer in read_answers(log) if answer.index is not None]
    assert len(readings) > 150
    assert len({(r.meter, r.read_at) for r in readings}) == len(readings)
    assert len(answered) - closed <= len(readings) <= len(answered)


def test_a_meter_that_is_silent_stays_so_known_when_its_interval_changes() -> None:
    """The event of its recovery counts from the first failed read, under whatever plan."""
    rows: list[Row] = []

    def put(row: Row) -> bool:
        rows.append(row)
        return True

    async def scenario() -> None:
        farm = farm_of(
            SystemClock(), {"name": "a", "kind": "tcp", "baud": 115_200, "pace": False, "meter": METERS[:1]}
        )
        async with running(farm):
            meter = farm.meters["W-1"]
            meter.set_fault(BusFaultSettings(kind="silent"))
            poller = Poller(
                plan_of({**_bus(farm, "a"), "timeout_s": 0.1}, meters=[{**METERS[0], "bus": "a", "interval_s": 0.1}]),
                clock=SystemClock(), rng=random.Random(1), backoff=Backoff(0.1, 0.1, 1.0), put=put,
                pressure=lambda: 0.0,
            )  # fmt: skip
            work = asyncio.ensure_future(poller.run())
            await until(lambda: poller.counters["failed_reads"] >= 3)
            failed = poller.counters["failed_reads"]
            poller.adopt(
                plan_of({**_bus(farm, "a"), "timeout_s": 0.1}, meters=[{**METERS[0], "bus": "a", "interval_s": 0.2}])
            )
            assert poller.meters_silent == 1
            meter.set_fault(None)
            await until(lambda: any(isinstance(row, Event) and row.kind == "read_recovered" for row in rows))
            recovered = next(row for row in rows if isinstance(row, Event) and row.kind == "read_recovered")
            assert recovered.count >= failed
            assert poller.meters_silent == 0
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    asyncio.run(scenario())
