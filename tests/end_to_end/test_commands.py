"""From the office to the meter and back: read-now, set-clock and a plan, by API, broker, gateway and ingest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from metergate.house import GATEWAY, build
from tests.brokers import mosquitto, wait_for_port
from tests.end_to_end.town import Town, until

METERS = ("G-SB-0001", "W-SB-0002", "E-SB-0003")


def _ask(place: Town, method: str, path: str, **more: Any) -> Any:
    known = {"authorization": f"Bearer {place.house.key}"}
    address = f"http://127.0.0.1:{place.house.api_port}{path}"
    return httpx.request(method, address, timeout=60, headers=known, **more).json()


def _metergate(place: Town, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metergate", *words, "--config", str(place.house.settings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_commands_and_plans_go_from_the_office_to_the_meters_and_back(tmp_path: Path) -> None:
    house = build(tmp_path / "town", meters=1, interval_s=5, serial_meters=3)
    text = house.plan.read_text("utf-8")  # a busy machine pauses in mid-answer for longer than a UART does
    house.plan.write_text(
        text.replace('parity = "even"\n', 'parity = "even"\nidle_gap_s = 5.0\ntimeout_s = 20.0\n'), "utf-8"
    )
    place = Town(house, mosquitto(tmp_path / "broker", port=house.broker_port))
    try:
        place.start(*(service.name for service in house.services() if service.name != "office"))
        wait_for_port(house.api_port)
        until(lambda: _ask(place, "GET", f"/api/v1/gateways/{GATEWAY}").get("online") is True, place.words)

        made = _ask(place, "POST", f"/api/v1/meters/{METERS[1]}/read-now")
        until(lambda: _state(place, made) not in ("waiting", "sent"), place.words)
        shown = _ask(place, "GET", f"/api/v1/commands/{made['nonce']}")
        assert (shown["state"], [one["cause"] for one in shown["meters"]]) == ("done", ["ok"])

        made = _ask(place, "POST", f"/api/v1/gateways/{GATEWAY}/set-clock")["items"][0]
        until(lambda: _state(place, made) not in ("waiting", "sent"), place.words)
        shown = _ask(place, "GET", f"/api/v1/commands/{made['nonce']}")
        assert {one["meter"]: one["cause"] for one in shown["meters"]} == dict.fromkeys(METERS, "ok")

        said = _metergate(place, "command", "read-now", METERS[0], METERS[2], "--wait")
        assert said.returncode == 0, said.stderr
        assert json.loads(said.stdout)["result"] == "2 of 2 meters read"

        said = _metergate(place, "plan", GATEWAY, "--publish", "--version", "7")
        assert said.returncode == 0, said.stderr
        until(lambda: _ask(place, "GET", "/api/v1/events?kind=plan")["items"] != [], place.words)
        (event,) = _ask(place, "GET", "/api/v1/events?kind=plan")["items"]
        assert (event["cause"], event["text"]) == ("accepted", "plan 7 is in force, before it 1")
        place.kill("gateway")
        place.start("gateway")
        until(
            lambda: "plan 7 with 4 meters" in str(_ask(place, "GET", "/api/v1/events?kind=gateway_started")),
            place.words,
        )
    finally:
        place.stop(*(name for name in ("gateway", "api", "ingest", *place.processes) if name in place.processes))
        place.broker.stop()


def _state(place: Town, made: dict[str, Any]) -> str:
    return str(_ask(place, "GET", f"/api/v1/commands/{made['nonce']}")["state"])
