"""The virtual house: the real services on one virtual clock, held against the truth of a small scenario."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metergate.commands.simulate import play
from metergate.virtual import VirtualHouse
from metergate.virtual_report import EXPORTS, problems, report
from metergate.workplace import workplace
from metering.errors import MetergateError
from metering.settings import parse
from simulators.scenario import Scenario

STREET = """
title = "a street"
purpose = "small enough for every test run"
seed = 3
start = "2026-02-19"
days = 1.5
gather_s = 1800.0
bill = "2026-02"
[[fleet]]
name = "flats"
count = 6
medium = "gas"
customer_class = "residential"
profile = "fuxin-corrector"
per_bus = 3
[[fleet]]
name = "taps"
count = 4
medium = "water"
customer_class = "residential"
profile = "usw-ultrasonic"
gateway = "gw-2"
"""
TROUBLE = """
[[event]]
kind = "silent"
day = 0.2
for_days = 0.3
meters = ["flats-0001"]
[[event]]
kind = "late"
day = 0.1
for_days = 0.2
meters = ["flats-0002"]
seconds = 2.5
[[event]]
kind = "garbage"
day = 0.4
for_days = 0.2
meters = ["flats-0003"]
[[event]]
kind = "spike"
day = 0.5
meters = ["taps-0002"]
[[event]]
kind = "link_cut"
day = 0.6
for_days = 0.1
bus = "flats-b2"
"""
OUTAGES = """
[[event]]
kind = "broker_off"
day = 0.2
for_days = 0.3
[[event]]
kind = "ingest_off"
day = 0.6
for_days = 0.25
[[event]]
kind = "gateway_off"
day = 0.9
for_days = 0.2
gateway = "gw-2"
[[event]]
kind = "anomaly_off"
day = 1.0
for_days = 0.1
"""


def run(text: str, folder: Path, **changes: Any) -> tuple[VirtualHouse, dict[str, Any]]:
    story = parse(text, Scenario, name="street.toml").model_copy(update=changes)
    with workplace(folder) as place:
        house = play(story, place)
        return house, report(house)


def exports(folder: Path) -> dict[str, bytes]:
    return {name: (folder / f"{name}.jsonl").read_bytes() for name in EXPORTS}


def test_a_healthy_street_is_polled_by_its_plan_and_stored_to_the_last_reading(tmp_path: Path) -> None:
    house, found = run(STREET, tmp_path / "run")
    assert problems(found) == []
    # ten meters, each hour of a day and a half; a gas and a water meter each answer one request a poll
    assert found["frames"]["polls"] == found["frames"]["planned"] == found["frames"]["seen"] == 360
    assert found["stored"]["answers"] == found["stored"]["readings"] == 360
    assert found["stored"]["worst_ms"] == 0, "virtual time stands while an answer is on its way"
    first = json.loads((tmp_path / "run" / "readings.jsonl").read_text().splitlines()[0])
    assert first["meter"] == "flats-0001"
    assert first["read_at"] < "2026-02-18T17:00:00.000Z"
    assert house.clock.now_ms() >= house.scenario.end_ms


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    run(STREET + TROUBLE, tmp_path / "one", days=1.0)
    run(STREET + TROUBLE, tmp_path / "two", days=1.0)
    run(STREET + TROUBLE, tmp_path / "three", days=1.0, seed=4)
    assert exports(tmp_path / "one") == exports(tmp_path / "two")
    assert exports(tmp_path / "one")["readings"] != exports(tmp_path / "three")["readings"]


def test_trouble_at_some_meters_costs_the_others_nothing(tmp_path: Path) -> None:
    _, found = run(STREET + TROUBLE, tmp_path / "run")
    assert problems(found) == []
    assert found["stored"]["lost"] == found["stored"]["invented"] == 0
    # untouched are taps-0001, -0003 and -0004, 36 hours each: one bus of flats was cut, the other had its events
    assert found["frames"]["healthy_planned"] == found["frames"]["healthy_answered"] == 108
    assert found["frames"]["polls"] > 360, "who does not answer is asked again"


def test_nothing_is_lost_while_broker_gateway_ingest_and_rules_are_away(tmp_path: Path) -> None:
    _, found = run(STREET + OUTAGES, tmp_path / "run")
    assert problems(found) == []
    assert found["stored"]["lost"] == found["stored"]["invented"] == 0
    # four water meters miss the 4.8 hours without their gateway: 24 hours and 21.6 before it, 14.4 behind it
    assert 360 - 4 * 6 <= found["stored"]["readings"] <= 360 - 4 * 4


def test_a_run_that_ends_in_an_outage_still_brings_home_what_waits(tmp_path: Path) -> None:
    _, found = run(STREET + OUTAGES, tmp_path / "run", days=0.25)
    assert problems(found) == []
    assert found["stored"]["readings"] == found["stored"]["answers"] == 60
    assert found["to"] == "2026-02-18T22:00:00.000Z"


def test_a_folder_that_holds_something_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(MetergateError, match="holds something already"):
        run(STREET, tmp_path, days=0.1)
    assert (tmp_path / "mine.txt").read_text() == "keep me"
