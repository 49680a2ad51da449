"""Serial buses in the utility's books: the plan that is made from them has device, speed and addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.bus_budget import budgets
from gateway.links import parse_line
from gateway.plan import load_plan
from gateway.profiles import load_profiles
from metergate.commands.books import _bus_toml
from metergate.house import build
from metergate.house_serial import SERIAL_METERS_FILE
from metering.clock import ManualClock
from metering.errors import SettingsError
from simulators.bus_farm import BusFarm
from simulators.bus_settings import load_bus_farm


def test_a_house_with_a_serial_bus_has_a_plan_that_fits(tmp_path: Path) -> None:
    house = build(tmp_path / "house", meters=6, serial_meters=6)
    plan = load_plan(house.plan, load_profiles())
    (bus,) = [bus for bus in plan.buses if bus.is_serial]
    assert (bus.kind, bus.baud, bus.parity, bus.data_bits) == ("serial", 2400, "even", 8)
    assert bus.device == str(house.folder / "tty-serial-1")
    wired = {meter.meter: meter for meter in plan.meters if meter.bus is bus}
    assert len(wired) == 6
    assert wired["G-SB-0001"].address == "00002026800000"
    (budget,) = budgets(plan)
    assert budget.fits
    farm = BusFarm(load_bus_farm(house.folder / SERIAL_METERS_FILE), ManualClock())
    assert farm.meters.keys() == wired.keys()
    assert [service.name for service in house.services()].count("serial-meters") == 1


def test_a_house_without_one_has_no_service_for_it(tmp_path: Path) -> None:
    house = build(tmp_path / "house", meters=6)
    assert "serial-meters" not in [service.name for service in house.services()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2400-8E1", "2400 8E1"), ("9600", "9600 8N1"), ("300-7e1", "300 7E1"), ("4800-8O2", "4800 8O2")],
)
def test_speeds_are_written_as_engineers_do(text: str, shown: str) -> None:
    assert str(parse_line(text)) == shown


@pytest.mark.parametrize("text", ["", "fast", "2400-9E1", "2400-8X1", "2400-8E3", "-8E1", "2400-8E1-"])
def test_other_speeds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2400-8E1"):
        parse_line(text)


def test_a_serial_kind_without_a_speed_of_sense_is_refused_in_the_plan() -> None:
    assert _bus_toml({"name": "b", "kind": "serial-tcp:9600-8N1", "host": "h", "port": 4001}) == [
        'name = "b"', 'kind = "serial-tcp"', 'host = "h"', "port = 4001", "baud = 9600", 'parity = "none"',
        "data_bits = 8", "stop_bits = 1",
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="bus b: bus_kind"):
        _bus_toml({"name": "b", "kind": "serial:quick", "host": "/dev/x", "port": None})
