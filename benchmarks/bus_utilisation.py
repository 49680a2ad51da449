"""How much of a serial line's time is used: 32 Modbus RTU meters at 9600 baud, 20 registers each; CJ/T 188 at 2400.

    python -m benchmarks.bus_utilisation [--seconds 20] [--buses 16]

The slaves are simulated meters on pseudo-terminals in a process of their own, paced to the baud rate; this process is
the gateway's poller with its outbox. Measured at the slave: the time that requests, turnarounds, answers and the
silence between frames must take, over the time that passed (less the simulator's own overshoot, which is printed).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvloop

from gateway.meter_poll import Backoff
from gateway.outbox import Outbox
from gateway.plan import Plan, PlanFile, make_plan
from gateway.poller import Poller
from gateway.profiles import load_profiles
from gateway.protocols.framing import crc16_modbus
from metering.clock import SystemClock

METERS = 32
QUANTITIES = (
    ("volume", "m3"), ("volume_actual", "m3"), ("volume_standard", "m3"), ("volume_reverse", "m3"), ("flow", "m3/h"),
    ("pressure", "kPa"), ("temperature", "degC"), ("battery", "V"), ("credit", "m3"), ("conversion_factor", "1"),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One kind of bus."""

    name: str
    profile: str
    buses: int
    baud: int
    parity: str
    turnaround_s: float


def profile_text() -> str:
    """Return a model with ten uint32 in twenty neighbouring registers."""
    fields = "".join(
        f'[[field]]\nname = "{name}"\nquantity = "{name}"\nunit = "{unit}"\nregister = {100 + 2 * place}\n'
        'encoding = "uint32"\nscale = "0.001"\n'
        for place, (name, unit) in enumerate(QUANTITIES)
    )
    asked = bytes.fromhex("01 03 00 64 00 14")
    answered = bytes.fromhex("01 03 28 00 00 04 D2") + bytes(36)
    frames = [(body + crc16_modbus(body).to_bytes(2, "little")).hex() for body in (asked, answered)]
    return (
        'id = "bench-20"\nname = "bench"\nmedium = "gas"\nprotocol = "modbus"\nsource = "made for this benchmark"\n'
        f'index = "volume"\n{fields}[[caveat]]\ntext = "none"\n[[golden]]\nrequest = "{frames[0]}"\n'
        f'response = "{frames[1]}"\nexpect = {{ volume = "1.234" }}\nsource = "computed"\n'
    )


def meter(case: Case, bus: int, number: int) -> dict[str, Any]:
    """Return one meter's place."""
    place = {"unit": number} if case.profile == "bench-20" else {"address": f"{bus:07d}{number:07d}"}
    return {"meter": f"M-{bus}-{number}", "profile": case.profile, **place}


def farm_config(case: Case, folder: Path) -> Path:
    """Write the settings of the simulated buses."""
    lines = [f'control_port = 0\nprofiles = ["{folder}/profiles"]\n']
    for bus in range(case.buses):
        lines.append(
            f'[[bus]]\nname = "b{bus}"\nlink = "{folder}/tty{bus}"\nbaud = {case.baud}\nparity = "{case.parity}"\n'
            f"turnaround_s = {case.turnaround_s}\n"
        )
        for number in range(1, METERS + 1):
            values = meter(case, bus, number) | {"curve": "counting"}
            lines.append("[[bus.meter]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
    path = folder / "buses.toml"
    path.write_text("".join(lines))
    return path


def plan(case: Case, folder: Path) -> Plan:
    """Return the gateway's plan: every meter always due."""
    buses = [
        {
            "name": f"b{n}", "kind": "serial", "device": str(folder / f"tty{n}"), "baud": case.baud,
            "parity": case.parity, "timeout_s": 2.0,
        }
        for n in range(case.buses)
    ]  # fmt: skip
    meters = [
        meter(case, n, number) | {"bus": f"b{n}", "interval_s": 0.05}
        for n in range(case.buses)
        for number in range(1, METERS + 1)
    ]
    file = PlanFile.model_validate({"gateway": "bench", "bus": buses, "meter": meters})
    return make_plan(file, load_profiles(folder / "profiles"))


async def stats(port: int) -> dict[str, Any]:
    """Ask the farm what it measured."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'{"stats": true}\n')
    found: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    return found


async def measure(case: Case, folder: Path, seconds: float, control_port: int) -> dict[str, float]:
    """Poll for a while; return what the slaves saw, and what it cost."""
    clock = SystemClock()
    outbox = Outbox(
        folder / "outbox.db", gateway="bench", clock=clock, rng=random.Random(1), memory_rows=100_000,
        commit_interval_s=0.02,
    )  # fmt: skip
    await outbox.open()
    poller = Poller(
        plan(case, folder), clock=clock, rng=random.Random(1), backoff=Backoff(), put=outbox.put,
        pressure=lambda: outbox.pressure,
    )  # fmt: skip
    task = asyncio.ensure_future(poller.run())
    await clock.sleep(2.0)
    before, cpu, began = await stats(control_port), _cpu_s(), clock.monotonic()
    await clock.sleep(seconds)
    after, cpu, elapsed = await stats(control_port), _cpu_s() - cpu, clock.monotonic() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await outbox.close()
    return _figures(before["buses"], after["buses"]) | {
        "cpu": cpu / elapsed,
        "failed": poller.counters["failed_reads"],
        "readings": poller.counters["readings"],
    }


def _figures(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    used, polls, worst = 0.0, 0.0, 1.0
    overshoot = answers = 0.0
    for name, end in after.items():
        diff = {key: end[key] - before[name][key] for key in end}
        share = diff["ideal_s"] / (diff["elapsed_s"] - diff["overshoot_s"])
        used, worst = used + share, min(worst, share)
        polls += diff["answers"] / diff["elapsed_s"]
        overshoot, answers = overshoot + diff["overshoot_s"], answers + diff["answers"]
    count = len(after)
    return {
        "mean": used / count,
        "worst": worst,
        "polls_s": polls / count,
        "overshoot_ms": 1000 * overshoot / answers,
    }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run(case: Case, seconds: float) -> None:
    """Measure one case and print it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "profiles").mkdir()
        (folder / "profiles" / "bench-20.toml").write_text(profile_text())
        config = farm_config(case, folder)
        farm = subprocess.Popen(
            [sys.executable, "-m", "simulators.bus_farm", "--config", str(config)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert farm.stdout is not None
            greeting = json.loads(farm.stdout.readline())
            found = uvloop.run(measure(case, folder, seconds, greeting["control_port"]))
        finally:
            farm.terminate()
            farm.wait()
    print(
        f"{case.name}: {found['mean']:.1%} of the line used (worst bus {found['worst']:.1%}), "
        f"{found['polls_s']:.2f} polls/s a bus, {found['readings']:.0f} readings, {found['failed']:.0f} failed; "
        f"simulator's overshoot {found['overshoot_ms']:.2f} ms an answer; gateway {found['cpu']:.1%} of one core",
        flush=True,
    )


def main() -> None:
    """Run all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each case is measured")
    parser.add_argument("--buses", type=int, default=16, help="buses of the large cases")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    for case in (
        Case("Modbus RTU 9600, 1 bus", "bench-20", 1, 9600, "none", 0.0036),
        Case(f"Modbus RTU 9600, {options.buses} buses", "bench-20", options.buses, 9600, "none", 0.0036),
        Case("CJ/T 188 2400, 1 bus", "water-cjt188", 1, 2400, "even", 0.02),
        Case(f"CJ/T 188 2400, {options.buses} buses", "water-cjt188", options.buses, 2400, "even", 0.02),
    ):
        run(case, options.seconds)


if __name__ == "__main__":
    main()
