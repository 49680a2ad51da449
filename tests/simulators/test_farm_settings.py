"""Settings of a farm: two forms of file, one check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metering.clock import ManualClock
from metering.errors import SettingsError
from metering.reading import Flag
from simulators.farm_settings import FarmSettings, MeterSettings, PortSettings, flag_bits, load_farm, spread
from simulators.modbus_farm import Farm
from tests.simulators.profiles import PROFILES

TOML = """
seed = 7
[[port]]
port = 5020
[[port.meter]]
meter = "G-0001"
unit = 3
profile = "test-corrector"
curve = "restaurant_gas"
fault = { kind = "late", seconds = 3 }
"""


def _meter(name: str, **more: object) -> MeterSettings:
    return MeterSettings.model_validate({"meter": name, "profile": "test-corrector", **more})


def test_toml_and_json_give_the_same_farm(tmp_path: Path) -> None:
    (tmp_path / "farm.toml").write_text(TOML)
    farm = load_farm(tmp_path / "farm.toml")
    (tmp_path / "farm.json").write_text(farm.model_dump_json())
    assert load_farm(tmp_path / "farm.json") == farm
    meter = farm.port[0].meter[0]
    assert (meter.unit, meter.curve, meter.fault and meter.fault.seconds) == (3, "restaurant_gas", 3.0)


def test_mistakes_name_line_value_and_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "farm.toml").write_text(
        TOML.replace("unit = 3", "unit = 300").replace('kind = "late"', 'kind = "lat"')
    )
    with pytest.raises(SettingsError) as caught:
        load_farm(tmp_path / "farm.toml")
    assert [line.split(": ")[0] for line in caught.value.problems] == ["farm.toml:7", "farm.toml:10"]
    assert "255" in caught.value.problems[0]
    assert 'did you mean "late"?' in caught.value.problems[1]


def test_mistakes_in_json_name_their_place(tmp_path: Path) -> None:
    (tmp_path / "farm.json").write_text(json.dumps({"port": [{"meter": [{"meter": "A", "profil": "x"}]}]}))
    with pytest.raises(SettingsError, match=r"farm\.json: port\.0\.meter\.0\.profil"):
        load_farm(tmp_path / "farm.json")


def test_one_unit_twice_and_one_meter_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="unit 1 is given to two meters"):
        PortSettings(meter=(_meter("A"), _meter("B")))
    with pytest.raises(ValueError, match="'A' stands in the farm twice"):
        FarmSettings(port=(PortSettings(meter=(_meter("A"),)), PortSettings(meter=(_meter("A"),))))
    with pytest.raises(ValueError, match="exactly one meter"):
        PortSettings(meter=(_meter("A"), _meter("B", unit=2)), any_unit=True)


def test_meter_id_that_would_break_the_log_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern"):
        _meter("A\tB")


def test_unknown_curve_and_unknown_profile_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="allowed: household_gas"):
        _meter("A", curve="houshold_gas")
    farm = FarmSettings(port=(PortSettings(meter=(_meter("A").model_copy(update={"profile": "tst-corrector"}),)),))
    with pytest.raises(SettingsError, match=r'port\[0\]\.meter\[0\].*did you mean "test-corrector"\?'):
        Farm(farm, ManualClock(), profiles=PROFILES)


def test_spread_puts_meters_on_ports_and_numbers_their_units() -> None:
    ports = spread([_meter(f"M{n}") for n in range(5)], per_port=2)
    assert [[(m.meter, m.unit) for m in port.meter] for port in ports] == [
        [("M0", 1), ("M1", 2)],
        [("M2", 1), ("M3", 2)],
        [("M4", 1)],
    ]


def test_flag_names_become_bits_of_a_reading() -> None:
    assert flag_bits(("MAGNET", "LOW_BATTERY", "MAGNET")) == Flag.MAGNET | Flag.LOW_BATTERY
