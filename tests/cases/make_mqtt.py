"""Make the case of MQTT meters: seven platforms, messages that get lost, come twice, come late, and wrong clocks.

The gateway's driver hears simulated meters through the broker in memory, on virtual time, with the tap on. What is
expected is what it made of the messages then, after the simulators' own log judged it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway.drivers.mqtt_memory import MqttMemory
from gateway.drivers.mqtt_meters import MqttMeters
from gateway.plan import Plan, parse_plan
from gateway.profiles import load_profiles
from gateway.stamps import MeterStamps
from gateway.tap import Tap, TapOrder
from gateway.tap_settings import TapSettings
from metergate.judge import judge
from metergate.memory_broker import MemoryBroker
from metergate.virtual_time import VirtualClock, VirtualLoop
from metering.reading import Reading, Row
from simulators.answer_log import read_answers
from simulators.mqtt_formats import FORMATS
from simulators.mqtt_meters import MqttMeters as Simulated
from simulators.mqtt_settings import FormatName, MqttMeterSettings, MqttMetersSettings
from tests.cases.live import Live

NAME: Final = "mqtt-lost-doubled-and-wrong-clocks"
_START_MS: Final = 1_772_323_200_000  # 2026-03-01T00:00:00Z
_SECONDS: Final = 7_200.0
_METERS: Final[tuple[tuple[FormatName, str, dict[str, Any]], ...]] = (
    ("chirpstack", "0004a30b00000001", {"drop": 0.3}),
    ("ttn", "ttn-2", {"qos": 0, "duplicate": 0.4}),
    ("wmbusmeters", "33225544", {}),
    ("iotda", "iot-4", {"clock_error_s": 240}),
    ("json", "json-5", {"rows": 3, "drop": 0.2, "duplicate": 0.3}),
    ("json-no-clock", "pulse-6", {}),
    ("json", "json-7", {"clock_dead": True}),
)


def _plan() -> str:
    lines = ["version = 1", 'gateway = "gw-case"', "", "[[mqtt_bus]]", 'name = "field"']
    for number, (form, device, _) in enumerate(_METERS, start=1):
        lines += ["", "[[mqtt_meter]]", f'meter = "M-{number}"', 'bus = "field"', f'device = "{device}"']
        lines += [f'profile = "{FORMATS[form].profile}"', "interval_s = 600"]
    return "\n".join(lines) + "\n"


PLAN: Final = _plan()


def record(folder: Path, *, seed: int = 7) -> Live:
    """Let the meters speak for two hours of virtual time with the tap on, and judge what came."""
    plan = parse_plan(PLAN, load_profiles(), name="plan")
    clock, rows = VirtualClock(_START_MS), list[Row]()
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        counters = runner.run(_hear(plan, clock, rows, folder, seed))
    for path in folder.glob("memory.db*"):
        path.unlink()
    billed = {m.meter: m.profile.index for bus in plan.mqtt for m in bus.meters.values()}
    # a message that came twice is a row twice; the store keeps one of each key
    kept = {(row.meter, row.read_at): row for row in rows if isinstance(row, Reading)}
    verdict = judge(read_answers(folder / "answers.tsv"), kept.values(), billed)
    assert verdict.clean, f"{NAME}: {verdict}"
    counts = [{"bus": "mqtt", "meter": "", "kind": kind, "count": count} for kind, count in counters.items() if count]
    return Live(plan, rows, counts, sorted((folder / "tap").glob("*.jsonl")))


async def _hear(plan: Plan, clock: VirtualClock, rows: list[Row], folder: Path, seed: int) -> dict[str, int]:
    broker, stamps = MemoryBroker(), defaultdict[str, MeterStamps](MeterStamps)

    async def keep(new: Sequence[Row]) -> None:
        rows.extend(new)

    driver = MqttMeters(
        plan.mqtt, broker.settings, client_id="gw", receive_maximum=100, session_expiry_s=0, clock=clock,
        memory=MqttMemory(folder / "memory.db", clock), stamp=lambda meter, now: stamps[meter].stamp(now)[0],
        keep=keep,
    )  # fmt: skip
    tap = Tap(
        TapSettings(folder=folder / "tap", queue_lines=1_000_000), plan.gateway, clock=clock, buses=list,
        pushed=lambda: driver,
    )  # fmt: skip
    tap.start(TapOrder(0))
    meters = tuple(
        MqttMeterSettings(meter=f"M-{n}", format=form, device=device, interval_s=600, curve="counting", **more)
        for n, (form, device, more) in enumerate(_METERS, start=1)
    )
    settings = MqttMetersSettings(meter=meters, broker=broker.settings, seed=seed, log=folder / "answers.tsv")
    senders = Simulated(settings, clock, flush_s=600.0)
    tasks = [asyncio.ensure_future(driver.run()), asyncio.ensure_future(senders.run())]
    await clock.sleep(_SECONDS)
    for task in reversed(tasks):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await clock.sleep(1.0)
    tap.close()
    return {kind: count for kind, count in driver.rows.counters.items() if kind != "acknowledged"}
