"""Make the cases that come from simulated buses: python -m tests.cases.make FOLDER

A sick bus is polled by the gateway's scheduler with the tap on, on virtual time. What is expected is what the *live*
poll brought, and that only after it was judged by the simulators' own answer log: nothing lost, nothing invented.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gateway.drivers.serial_bus import SerialBus
from gateway.links import serial_bus
from gateway.meter_poll import Backoff
from gateway.plan import Plan, parse_plan
from gateway.poller import Poller
from gateway.replay.decoding import bus_counts
from gateway.tap import Tap, TapOrder
from gateway.tap_settings import TapSettings
from metergate.judge import judge
from metering.reading import Reading, Row
from simulators.answer_log import read_answers
from simulators.outcomes import write_outcome
from tests.cases import make_mqtt
from tests.cases.live import Live
from tests.gateway.drivers.buses import PROFILES, JumpClock, MemoryPort, farm_of

GAS_RTU = {"profile": "fuxin-corrector", "unit": 1}
GAS = {"profile": "gas-cjt188", "address": "33780020260001"}
WATER = {"profile": "water-cjt188", "address": "00000805000001"}
ELECTRICITY = {"profile": "electricity-dlt645-2007", "address": "000000000161"}
WATER_MBUS = {"profile": "water-mbus", "address": "5"}


@dataclass(frozen=True)
class Case:
    """One sick bus. meters: settings of plan and simulator, with its fault. seconds: of virtual time."""

    name: str
    meters: Sequence[dict[str, Any]]
    baud: int = 9600
    echo: bool = False
    seconds: float = 300.0


CASES = (
    Case(
        "modbus-rtu-late-answers",
        [
            GAS_RTU | {"meter": "G-1", "fault": {"kind": "late", "seconds": 0.7, "share": 0.4}},
            GAS_RTU | {"meter": "G-2", "unit": 2},
        ],
    ),
    Case(
        "modbus-rtu-flipped-bits",
        [
            GAS_RTU | {"meter": "G-1", "fault": {"kind": "flip", "share": 0.5}},
            GAS_RTU | {"meter": "G-2", "unit": 2, "fault": {"kind": "flip", "share": 0.3}},
        ],
    ),
    Case("dlt645-cut-and-silent", [
        ELECTRICITY | {"meter": "E-1", "fault": {"kind": "cut", "keep": 15, "share": 0.3}},
        ELECTRICITY | {"meter": "E-2", "address": "000000000162", "fault": {"kind": "silent", "share": 0.3}},
    ]),
    Case("mbus-noise-before-answers", [
        WATER_MBUS | {"meter": "W-1", "fault": {"kind": "noise", "size": 8, "share": 0.5}},
        WATER_MBUS | {"meter": "W-2", "address": "6"},
    ]),
    Case("cjt188-late-and-foreign", [
        GAS | {"meter": "G-1", "fault": {"kind": "late", "seconds": 0.9, "share": 0.3}},
        WATER | {"meter": "W-1", "fault": {"kind": "wrong_address", "share": 0.3}},
    ]),
    Case("five-protocols-with-echo", [
        GAS_RTU | {"meter": "G-1", "fault": {"kind": "flip", "share": 0.2}},
        GAS | {"meter": "G-2", "fault": {"kind": "cut", "keep": 9, "share": 0.2}},
        WATER | {"meter": "W-1"},
        ELECTRICITY | {"meter": "E-1", "fault": {"kind": "wrong_address", "share": 0.2}},
        WATER_MBUS | {"meter": "W-2", "fault": {"kind": "silent", "share": 0.2}},
    ], echo=True),
)  # fmt: skip


def plan_text(case: Case) -> str:
    """Return the plan of a case."""
    lines = ['gateway = "gw-case"', "", "[[bus]]", 'name = "b"', 'kind = "serial"', 'device = "recorded"']
    lines += [f"baud = {case.baud}", "timeout_s = 0.5"]
    for meter in case.meters:
        where = f'address = "{meter["address"]}"' if "address" in meter else f"unit = {meter['unit']}"
        lines += ["", "[[meter]]", f'meter = "{meter["meter"]}"', 'bus = "b"', where]
        lines += [f'profile = "{meter["profile"]}"', "interval_s = 10"]
    return "\n".join(lines) + "\n"


def record(case: Case, folder: Path, *, seed: int = 7) -> Live:
    """Poll a sick bus for some minutes of virtual time with the tap on, and judge what came."""
    plan = parse_plan(plan_text(case), PROFILES, name="plan")
    rows: list[Row] = []
    log = folder / "answers.tsv"
    live = asyncio.run(_poll(case, plan, rows, log, folder, seed))
    billed = {m.meter: m.profile.index.quantity for m in plan.meters if m.profile.index.quantity is not None}
    verdict = judge(read_answers(log), [row for row in rows if isinstance(row, Reading)], billed)
    assert verdict.clean, f"{case.name}: {verdict}"
    return live


async def _poll(case: Case, plan: Plan, rows: list[Row], log: Path, folder: Path, seed: int) -> Live:
    clock = JumpClock()
    meters = [{"curve": "counting", **meter} for meter in case.meters]
    bus = {"name": "b", "baud": case.baud, "echo": case.echo, "meter": meters}
    farm = farm_of(clock, bus, log=log, seed=seed)

    def put(row: Row) -> bool:
        rows.append(row)
        return True

    poller = Poller(plan, clock=clock, rng=random.Random(seed), backoff=Backoff(), put=put, pressure=lambda: 0.0)
    polled = poller.buses["b"]
    polled.link = link = serial_bus(
        polled.file, MemoryPort(farm.lines["b"]), clock=clock, rng=random.Random(seed), counters=poller.counters,
        on_up=polled._up, on_down=polled._down,
    )  # fmt: skip
    tap = Tap(
        TapSettings(folder=folder / "tap", queue_lines=1_000_000), plan.gateway, clock=clock,
        buses=lambda: poller.buses.values(), pushed=lambda: None,
    )  # fmt: skip
    tap.start(TapOrder(0))
    link.dial(1.0)
    await clock.work(clock.sleep(1.0))  # the line is open and silent before the first request
    task = asyncio.ensure_future(poller.run())
    await clock.work(clock.sleep(case.seconds))
    await clock.work(_until_idle(poller, clock))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    tap.close()
    farm._log.close()
    return Live(plan, rows, _counts(poller, link), sorted((folder / "tap").glob("*.jsonl")))


def _counts(poller: Poller, link: SerialBus) -> list[dict[str, Any]]:
    faults = {k: n for k, n in poller.counters.items() if n and k.startswith(("timeout", "frame_", "connects"))}
    lines = [{"bus": "b", "meter": "", "kind": kind, "count": number} for kind, number in faults.items()]
    return lines + bus_counts("b", link, [poll.meter for poll in poller.buses["b"].polls])


async def _until_idle(poller: Poller, clock: JumpClock) -> None:
    """Let what was asked be answered: a recording that ends within a poll ends it."""
    poller._due.clear()
    while any(bus.link.busy or bus.ready for bus in poller.buses.values()):
        await clock.sleep(0.05)
        poller._due.clear()
    await clock.sleep(2.0)


def main(target: Path) -> None:
    """Write all cases below a folder."""
    kept: dict[str, tuple[str, Callable[[Path], Live]]] = {
        case.name: (plan_text(case), partial(record, case)) for case in CASES
    }
    kept[make_mqtt.NAME] = (make_mqtt.PLAN, make_mqtt.record)
    for name, (plan, make) in kept.items():
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        live = make(folder)
        (folder / "plan.toml").write_text(plan, "utf-8")
        (recording,) = live.recordings
        recording.rename(folder / "recording.jsonl")
        (folder / "tap").rmdir()
        (folder / "answers.tsv").unlink()
        write_outcome(folder / "expected", live.rows, live.counts)
        print(f"{name}: {len(live.rows)} rows, {(folder / 'recording.jsonl').stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
