"""Modbus polls/s of 20 registers over 100 simulated meters: the gateway with outbox and uplink, and bare pymodbus.

    python -m benchmarks.modbus_polls [--seconds 8] [--rounds 3] [--ports 100]

Both subjects run in a process of their own, pinned to core 0 with all their threads, on uvloop, alternating in one
run against the same farm; farm, broker and a stand-in for ingest (it only acknowledges) run on core 1. Both have one
connection per port and one request under way on each. Bare pymodbus decodes nothing and keeps nothing; the gateway
decodes nine fields exactly, commits every reading to its outbox (SQLite, FULL) and hands it on until acknowledged.

One JSON object a line: the farm's ceiling, each round of each subject (polls/s, busy share of the core it is pinned
to), and the ratio of the medians. For the gateway also how many readings were acknowledged meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from pymodbus.client import AsyncModbusTcpClient

from gateway.plan import parse_plan
from gateway.profiles import load_profiles
from gateway.service import Gateway
from gateway.settings import GatewaySettings
from metering.clock import SystemClock
from metering.messages import VERSION, Ack, encode, gateway_of, topic
from metering.mqtt import BrokerSettings, MqttSession

ROOT: Final = Path(__file__).parents[1]
METERS: Final = 100
SUBJECT_CORE: Final = 0
OTHER_CORE: Final = 1

PROFILE: Final = """\
id = "bench-twenty"
name = "A gas volume corrector with 20 registers, for the benchmark"
medium = "gas"
protocol = "modbus"
source = "benchmarks/modbus_polls.py"
index = "base_total"
[[field]]
name = "base_total"
quantity = "volume_standard"
unit = "m3"
register = 0
encoding = "bcd"
size = 6
scale = "0.0001"
[[field]]
name = "actual_total"
quantity = "volume_actual"
unit = "m3"
register = 3
encoding = "bcd"
size = 6
scale = "0.0001"
[[field]]
name = "flow"
quantity = "flow"
unit = "m3/h"
register = 6
encoding = "float32"
[[field]]
name = "temperature"
quantity = "temperature"
unit = "degC"
register = 8
encoding = "float32"
[[field]]
name = "pressure"
quantity = "pressure"
unit = "kPa"
register = 10
encoding = "float32"
[[field]]
name = "conversion_factor"
quantity = "conversion_factor"
unit = "1"
register = 12
encoding = "uint32"
scale = "0.000001"
[[field]]
name = "battery"
quantity = "battery"
unit = "mV"
register = 14
encoding = "uint16"
[[field]]
name = "state"
register = 15
encoding = "uint16"
[[field.flag]]
flag = "LOW_BATTERY"
mask = 1
[[field]]
name = "reverse_total"
quantity = "volume_reverse"
unit = "L"
register = 16
encoding = "uint64"
[[golden]]
request = "01 03 00 00 00 03 05 CB"
response = "01 03 06 00 00 12 43 11 16 58 47"
expect = { base_total = "1243.1116" }
source = "computed"
"""


def say(**facts: Any) -> None:
    """One line of JSON."""
    print(json.dumps(facts), flush=True)


# --- the subjects


async def bare(ports: list[int], seconds: float) -> dict[str, Any]:
    """pymodbus' own asynchronous client: one per port, reading its meters in turn as fast as it can."""
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port, timeout=5) for port in ports]
    polls, ending = 0, False

    async def poll(client: AsyncModbusTcpClient) -> None:
        nonlocal polls
        while not ending:
            for unit in range(1, METERS // len(ports) + 1):
                answer = await client.read_holding_registers(0, count=20, device_id=unit)
                if answer.isError() or len(answer.registers) != 20:
                    raise SystemExit(f"unexpected answer: {answer}")
                polls += 1

    for client in clients:
        await client.connect()
    tasks = [asyncio.ensure_future(poll(client)) for client in clients]
    await asyncio.sleep(1.0)
    before = polls
    found = await _measure(seconds, lambda: polls - before)
    ending = True  # its client turns a cancellation into an error of its own
    await asyncio.gather(*tasks)
    for client in clients:
        client.close()
    return found


async def gateway(ports: list[int], seconds: float, broker: int, folder: Path) -> dict[str, Any]:
    """Our gateway, told to read every meter every millisecond, so that it reads as fast as it can."""
    profiles = load_profiles(folder)
    lines = ['gateway = "bench"']
    for number, port in enumerate(ports):
        lines.append(f'[[bus]]\nname = "b{number}"\nhost = "127.0.0.1"\nport = {port}')
    for number in range(METERS):
        bus, unit = divmod(number, METERS // len(ports))
        lines.append(
            f'[[meter]]\nmeter = "M{number:03}"\nbus = "b{bus}"\nunit = {unit + 1}\nprofile = "bench-twenty"\n'
            "interval_s = 0.001"
        )
    plan = parse_plan("\n".join(lines), profiles, name="plan")
    outbox = Path(tempfile.mkdtemp(dir=folder)) / "outbox.db"
    subject = Gateway(
        GatewaySettings(outbox=outbox, backlog_rows_s=100_000),
        plan,
        broker=BrokerSettings(port=broker),
        clock=SystemClock(),
        rng=random.Random(1),
    )
    work = asyncio.ensure_future(subject.run())
    await asyncio.sleep(2.0)
    counters = subject.poller.counters
    before, failed = counters["readings"], counters["failed_reads"]
    acknowledged = subject.outbox.oldest
    found = await _measure(seconds, lambda: counters["readings"] - before)
    health = subject.health()
    found |= {
        "acknowledged": subject.outbox.oldest - acknowledged,
        "waiting": health.waiting,
        "in_memory": health.in_memory,
        "commits": health.counters["outbox_commits"],
        "failed": counters["failed_reads"] - failed,
    }
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return found


async def _measure(seconds: float, polls: Any) -> dict[str, Any]:
    busy, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    wall, busy, done = time.perf_counter() - began, time.process_time() - busy, polls()
    return {
        "polls_per_s": round(done / wall),
        "core_busy": round(busy / wall, 3),
        "cpu_us_per_poll": round(busy / done * 1e6, 1),
    }


# --- what stands on the other core


class _Head(msgspec.Struct):
    epoch: str
    seq: int
    oldest: int
    rows: list[msgspec.Raw]


async def acknowledge(broker: int) -> None:
    """Stand in for ingest: take `up` messages and say that they are committed."""
    session = MqttSession(
        BrokerSettings(port=broker), client_id="ingest", clock=SystemClock(), subscriptions=[("mg/v1/+/+/up", 1)]
    )
    run = asyncio.ensure_future(session.run())
    head = msgspec.json.Decoder(_Head)
    have: dict[str, int] = {}
    while not session.connected:  # noqa: ASYNC110 (a benchmark; the session has no event for it)
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    while not run.done():
        for delivery in await session.receive(100):
            up = head.decode(delivery.payload)
            last = up.seq + len(up.rows) - 1
            reached = have.get(up.epoch, up.oldest - 1)
            have[up.epoch] = max(reached, last)
            answer = encode(Ack(VERSION, up.epoch, have[up.epoch]))
            session.send(topic(gateway_of(delivery.topic), "ack"), answer).add_done_callback(lambda sent: None)
            delivery.ack()


def start(stack: ExitStack, command: list[str], core: int) -> subprocess.Popen[bytes]:
    """Start a process on one core; it ends with the stack."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )

    def end() -> None:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()

    stack.callback(end)
    return process


def farm(stack: ExitStack, folder: Path, ports: int) -> list[int]:
    """Start the farm; return its ports."""
    per_port = METERS // ports
    meters = [{"meter": f"M{n:03}", "profile": "bench-twenty", "unit": n % per_port + 1} for n in range(METERS)]
    groups = [{"meter": meters[n : n + per_port]} for n in range(0, METERS, per_port)]
    config = folder / "farm.json"
    config.write_text(json.dumps({"port": groups, "profiles": [str(folder)]}))
    command = [sys.executable, "-m", "simulators.modbus_farm", "--config", str(config), "--no-log"]
    process = start(stack, command, OTHER_CORE)
    assert process.stdout
    found: list[int] = json.loads(process.stdout.readline())["ports"]
    return found


def broker(stack: ExitStack, folder: Path) -> int:
    """Start Mosquitto, or the embedded broker when there is none; return its port."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program:
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        start(stack, [program, "-c", str(config)], OTHER_CORE)
    else:
        start(stack, [sys.executable, "-m", "metergate.broker", "--port", str(port)], OTHER_CORE)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return port
        time.sleep(0.05)
    raise SystemExit("the broker does not come up")


def run_subject(name: str, options: argparse.Namespace, ports: list[int], folder: Path, port: int) -> dict[str, Any]:
    """Measure one subject once, in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.modbus_polls", "--subject", name, "--seconds", str(options.seconds),
        "--farm", ",".join(map(str, ports)), "--folder", str(folder), "--broker", str(port),
    ]  # fmt: skip
    done = subprocess.run(
        command, stdout=subprocess.PIPE, cwd=ROOT, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {SUBJECT_CORE}),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Compare, or be one of the subjects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ports", type=int, default=100, help="ports of the farm; 100 meters are shared among them")
    parser.add_argument("--subject", choices=["bare", "gateway", "acknowledge"], help=argparse.SUPPRESS)
    parser.add_argument("--farm", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--broker", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    ports = [int(port) for port in options.farm.split(",") if port]
    if options.subject == "acknowledge":
        uvloop.run(acknowledge(options.broker))
    elif options.subject == "bare":
        say(**uvloop.run(bare(ports, options.seconds)))
    elif options.subject == "gateway":
        say(**uvloop.run(gateway(ports, options.seconds, options.broker, options.folder)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run everything."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "bench-twenty.toml").write_text(PROFILE)
        ports = farm(stack, folder, options.ports)
        port = broker(stack, folder)
        command = [sys.executable, "-m", "benchmarks.modbus_polls", "--subject", "acknowledge", "--broker", str(port)]
        stand_in = start(stack, command, OTHER_CORE)
        assert stand_in.stdout
        assert stand_in.stdout.readline() == b"ready\n"
        results: dict[str, list[int]] = {"bare": [], "gateway": []}
        for turn in range(options.rounds):
            for name, series in results.items():
                found = run_subject(name, options, ports, folder, port)
                series.append(found["polls_per_s"])
                say(round=turn + 1, subject=name, **found)
        medians = {name: statistics.median(series) for name, series in results.items()}
        say(**medians, gateway_to_bare=round(medians["gateway"] / medians["bare"], 2))


if __name__ == "__main__":
    main()
