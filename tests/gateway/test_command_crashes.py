"""kill -9 of the gateway at any point around a command: carried out at most once, always a result or "unknown"."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from metering.clock import SystemClock
from metering.reading import Reading
from tests.brokers import mosquitto
from tests.brokers import running as broker_running
from tests.gateway.drivers.buses import farm_of, running
from tests.gateway.office import GATEWAY, Office, until

ROUNDS = 8
METER = {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001", "clock_off_s": 7200}


def _files(folder: Path, port: int, place: str, public: Path) -> list[str]:
    host, _, tcp = place.rpartition(":")
    (folder / "plan.toml").write_text(
        f'gateway = "{GATEWAY}"\n[[bus]]\nname = "b"\nkind = "serial-tcp"\nhost = "{host}"\nport = {tcp}\n'
        f"timeout_s = 5.0\nidle_gap_s = 1.0\n"  # a busy machine pauses in mid-answer
        f'[[meter]]\nmeter = "W-1"\nbus = "b"\nprofile = "water-cjt188"\ninterval_s = 0.5\n'
        'address = "00000805000001"\n'
    )
    (folder / "settings.toml").write_text(
        f'[broker]\nport = {port}\n[gateway]\noutbox = "{folder}/gw/outbox.db"\noffice_keys = ["{public}"]\n'
    )
    chosen = ["--config", str(folder / "settings.toml"), "--plan", str(folder / "plan.toml")]
    return [sys.executable, "-m", "metergate", "gateway", *chosen]


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=dict(os.environ))


def test_a_command_is_done_at_most_once_and_always_answered(tmp_path: Path) -> None:
    """Each round: a command, then kill -9 between its sending and long after its result, then copies."""
    chance = random.Random(20260320)

    async def scenario() -> None:
        farm = farm_of(SystemClock(), {"name": "b", "kind": "tcp", "meter": [METER], "baud": 9600})
        with broker_running(mosquitto(tmp_path / "broker")) as broker:
            office = Office(tmp_path, broker.port)
            async with running(farm):
                command = _files(tmp_path, broker.port, farm.path("b"), office.public)
                hearing = asyncio.ensure_future(office.run())
                gateway = _start(command, tmp_path / "gateway.log")
                try:
                    await _rounds(office, farm.meters["W-1"].times_set, command, gateway, chance, tmp_path)
                finally:
                    hearing.cancel()
                    await asyncio.gather(hearing, return_exceptions=True)

    asyncio.run(scenario())


async def _rounds(
    office: Office, times_set: list[int], command: list[str], gateway: subprocess.Popen[bytes],
    chance: random.Random, folder: Path,
) -> None:  # fmt: skip
    outcomes: list[str] = []
    try:
        for _ in range(ROUNDS):
            await _alive(office)
            before = len(times_set)
            nonce, sealed = office.command("set-clock", {"meters": ["W-1"], "utc_offset_s": 0})
            await office.send(sealed)
            await asyncio.sleep(chance.choice((0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.4)))
            gateway.send_signal(signal.SIGKILL)
            gateway.wait()
            gateway = _start(command, folder / "gateway.log")
            await _alive(office)
            await office.send(sealed)  # what a broker or an attacker may do: the same again, still in time
            if len(times_set) > before or office.finals(nonce):
                await until(lambda n=nonce: office.finals(n), what="a result or unknown")  # type: ignore[misc]
            else:  # it never reached the disk before the kill: then the copy is the first, and is done
                await until(lambda n=nonce: office.finals(n), what="the copy's result")  # type: ignore[misc]
            await office.send(sealed)
            assert len(times_set) - before <= 1, "carried out twice"
            causes = {event.cause for event in office.finals(nonce)}
            assert causes <= {"done", "unknown"}
            outcomes.append("/".join(sorted(causes)))
    finally:
        gateway.send_signal(signal.SIGKILL)
        gateway.wait()
    assert any("done" in outcome for outcome in outcomes), outcomes


async def _alive(office: Office) -> None:
    """Wait until the gateway of now has read its meter and hears us: a read-now is answered."""
    seen = len([row for row in office.rows if isinstance(row, Reading)])
    await until(lambda: len([row for row in office.rows if isinstance(row, Reading)]) > seen, what="a reading")
    while True:
        nonce, sealed = office.command("read-now", {"meters": ["W-1"]})
        await office.send(sealed)
        for _ in range(100):
            if office.finals(nonce):
                return
            await asyncio.sleep(0.02)
