"""From the wire to the API: the value that a foreign Modbus client sees is the one that the API shows."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from metergate.house import Kind, build
from tests.brokers import mosquitto, wait_for_port
from tests.end_to_end.town import Town, town, until

AT_REST = (Kind("W-RE", "water", "usw-ultrasonic", "rest", "residential", "D1"),)


def get(place: Town, path: str) -> Any:
    known = {"authorization": f"Bearer {place.house.key}"}
    answer = httpx.get(f"http://127.0.0.1:{place.house.api_port}{path}", timeout=60, headers=known)
    assert answer.headers["content-type"].startswith(("application/json", "application/problem+json"))
    return answer.json()


def start_api(place: Town) -> None:
    place.start("api")
    wait_for_port(place.house.api_port)


def test_mbpoll_reads_what_the_api_shows(tmp_path: Path) -> None:
    mbpoll = shutil.which("mbpoll")
    assert mbpoll, "mbpoll is missing: `make test` installs the Debian packages of packages-debian.txt"
    house = build(tmp_path / "town", meters=6, interval_s=1, kinds=AT_REST)
    place = Town(house, mosquitto(tmp_path / "broker", port=house.broker_port))
    try:
        place.start("broker", "meters", "ingest", "gateway")
        start_api(place)
        path = "/api/v1/meters/W-RE-0003/latest"  # latest readings are written each second, hence a little later
        until(lambda: "values" in get(place, path), lambda: f"the meter's reading is shown\n{place.words()}")
        # USW DN15-40: forward volume is an int64 in mL, big-endian, at 0204H (docs of the profile)
        command = [
            mbpoll,
            "-m",
            "tcp",
            "-p",
            str(house.farm_ports[0]),
            "-a",
            "3",
            "-r",
            "517",
            "-c",
            "4",
            "-t",
            "4:hex",
            "-o",
            "10",
        ]
        said = subprocess.run([*command, "-1", "127.0.0.1"], capture_output=True, text=True, timeout=60, check=True)
        words = re.findall(r"\[\d+\]:\s+0x([0-9A-F]{4})", said.stdout)
        millilitres = int("".join(words), 16)
        shown = get(place, path)
        volume = shown["values"]["volume"]
        assert volume["unit"] == "m3"
        assert round(float(volume["value"]) * 1_000_000) == millilitres
        assert millilitres > 0
        assert shown["quality"] == "valid"
        assert shown["source"] == "poll"
        for stamp in ("read_at", "received_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown[stamp])
    finally:
        place.stop("gateway", "api", "ingest", "meters", "broker")


def test_the_api_accounts_for_every_row_of_a_gateway(tmp_path: Path) -> None:
    with town(tmp_path / "town", "mosquitto", meters=6) as place:
        place.start("broker", "meters", "ingest", "gateway")
        start_api(place)
        until(lambda: place.stored() >= 50, lambda: f"readings flow\n{place.words()}")
        until(lambda: get(place, "/readyz")["status"] == "ok", lambda: str(get(place, "/readyz")))
        ledger = get(place, "/api/v1/gateways/gw-demo")
        text = json.dumps(ledger)
        for word in ("produced", "stored", "missing", "quarantined"):
            assert word in text
        counted = re.compile(r"^metergate_ingest_readings_total\{.*result=\"stored\".*\} [1-9]", re.MULTILINE)

        def metrics() -> str:
            return httpx.get(f"http://127.0.0.1:{place.house.api_port}/metrics", timeout=60).text

        # ingest reports its figures at intervals, hence a little later than the ledger
        until(lambda: counted.search(metrics()) is not None, metrics)


def test_a_full_disk_under_the_outbox_is_told_and_survived(tmp_path: Path) -> None:
    with town(tmp_path / "town", "mosquitto", meters=12) as place:
        place.start("broker", "meters", "ingest")
        start_api(place)
        place.start("gateway")
        until(lambda: place.stored() > 30, lambda: f"readings flow\n{place.words()}")
        gateway = place.processes["gateway"]
        size = place.house.outbox.stat().st_size
        # from now on no file of the gateway may grow: what a full disk or a quota does
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (max(4096, size // 2), resource.RLIM_INFINITY))
        until(lambda: place.health().get("outbox") == "full", lambda: f"the gateway says so; {place.health()}")
        until(lambda: "outbox" in json.dumps(get(place, "/readyz")), lambda: str(get(place, "/readyz")))
        before = place.health()["counters"]["polls"]
        until(lambda: place.health()["counters"]["polls"] > before, "meters are still read")
        assert gateway.poll() is None, "the gateway stays up"
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: place.health()["outbox"] == "ok", lambda: f"it catches up; {place.health()}")
        place.drain()
        assert place.verdict().clean, place.verdict()


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_outbox_is_moved_aside_and_its_rows_are_saved(tmp_path: Path, damage: str) -> None:
    with town(tmp_path / "town", "mosquitto", meters=6) as place:
        place.start("meters", "gateway")  # no broker: everything stays in the outbox
        until(lambda: place.health().get("produced", 0) > 200, lambda: f"rows gather\n{place.words()}")
        place.stop("gateway")
        held = len(place.outbox_rows())
        file = place.house.outbox
        raw = file.read_bytes()
        if damage == "cut":
            file.write_bytes(raw[: len(raw) * 3 // 4 // 4096 * 4096 + 100])
        else:
            file.write_bytes(raw[:4096] + b"\xa5" * 4096 + raw[8192:])
        place.start("broker", "ingest", "gateway")
        until(lambda: place.stored() > held // 4, lambda: f"it runs on\n{place.words()}")
        place.drain()
        assert list(file.parent.glob("*damaged*")) or list(file.parent.glob("*aside*")), list(file.parent.iterdir())
        verdict = place.verdict()
        assert not verdict.invented
        assert place.events("outbox_damaged"), "an event says so"


@pytest.mark.timeout(900)
def test_the_demo_ends_cleanly_on_ctrl_c_and_a_second_one_runs_beside_it(tmp_path: Path) -> None:
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    demos = [_demo(tmp_path / "demo", log) for log in logs]
    try:
        for demo, log in zip(demos, logs, strict=True):
            until(partial(_says, log, "Ctrl-C ends it"), log.read_text, 300)
            assert demo.poll() is None
        addresses = {found[0] for log in logs if (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()))}
        assert len(addresses) == 2
        for demo in demos:
            begun = time.monotonic()
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0
            assert time.monotonic() - begun < 30.0  # 3 s are promised; with two houses on two cores it takes longer
    finally:
        for demo in demos:
            demo.kill()
            demo.wait()


def _demo(folder: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "metergate", "demo", "--folder", str(folder), "--meters", "40"]
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)


def _says(log: Path, words: str) -> bool:
    return words in log.read_text()
