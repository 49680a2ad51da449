"""The plan file: what it means, and how its mistakes are answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.plan import load_plan, parse_plan
from gateway.profiles import load_profile, load_profiles
from gateway.requests import Request
from metering.errors import SettingsError

PROFILES = load_profiles()
GOOD = """\
version = 3
gateway = "gw-east"

[[bus]]
name = "boiler-house"
host = "10.20.0.7"

[[bus]]
name = "street"
host = "10.20.0.8"
port = 1502
timeout_s = 0.5
max_registers = 16

[[meter]]
meter = "G-1001"
bus = "boiler-house"
unit = 1
profile = "fuxin-corrector"
interval_s = 60

[[meter]]
meter = "E-7"
bus = "street"
unit = 7
profile = "sdm630"
[meter.options]
timeout_s = 3.0
max_gap = 60
"""


def test_a_plan_names_every_meter_with_its_requests(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(GOOD, "utf-8")
    plan = load_plan(path, PROFILES)
    assert (plan.gateway, plan.version, [bus.port for bus in plan.buses]) == ("gw-east", 3, [502, 1502])
    gas, electricity = plan.meters
    assert (gas.timeout_s, gas.interval_s, len(gas.requests)) == (2.0, 60.0, 1)
    assert electricity.timeout_s == 3.0, "the meter's own wins over the bus"
    assert electricity.interval_s == 900.0
    assert all(isinstance(request, Request) and request.count <= 16 for request in electricity.requests)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('name = "street"', 'name = "boiler-house"', 9, ["bus[1].name", "stands already at bus[0]"]),
        ('host = "10.20.0.8"\nport = 1502', 'host = "10.20.0.7"\nport = 502', 11, ['already bus "boiler-house"']),
        ('bus = "street"', 'bus = "stret"', 24, ["meter[1].bus", 'did you mean "street"?']),
        ('profile = "sdm630"', 'profile = "sdm360"', 26, ["meter[1].profile", 'did you mean "sdm630"?']),
        ('meter = "E-7"', 'meter = "G-1001"', 23, ["meter[1].meter", "stands already at meter[0]"]),
        ("interval_s = 60", "interval_s = -5", 20, ["meter[0].interval_s = -5", "0.001"]),
        ("port = 1502", 'port = "1502"', 11, ["bus[1].port", "without quotes"]),
        ("timeout_s = 0.5", "timout_s = 0.5", 12, ["unknown setting", 'did you mean "timeout_s"?']),
        ('gateway = "gw-east"', 'gateway = "gw/+"', 2, ["gateway", "must match"]),
        ("unit = 7", "unit = 256", 25, ["meter[1].unit = 256", "255"]),
        ("max_registers = 16", "max_registers = 1", 26, ["1 registers a request", "needs 2 in one"]),
    ],
)
def test_a_mistake_is_answered_with_line_value_and_what_is_allowed(
    old: str, new: str, line: int, words: list[str]
) -> None:
    assert old in GOOD
    with pytest.raises(SettingsError) as refused:
        parse_plan(GOOD.replace(old, new, 1), PROFILES, name="plan.toml")
    answer = str(refused.value)
    assert all(word in answer for word in words), answer
    assert f"plan.toml:{line}: " in answer, answer


def test_two_meters_of_one_model_on_one_unit_are_a_mistake() -> None:
    text = GOOD + '\n[[meter]]\nmeter = "E-8"\nbus = "street"\nunit = 7\nprofile = "sdm630"\n'
    with pytest.raises(SettingsError, match='unit 7 of bus "street" is already meter "E-7"'):
        parse_plan(text, PROFILES, name="plan.toml")


def test_the_examples_of_the_manual_hold(tmp_path: Path) -> None:
    pages = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text("utf-8").split("\n\n")
    blocks = ["\n".join(line[4:] for line in page.splitlines()) for page in pages if page.startswith("    ")]
    first, second = blocks.index(next(b for b in blocks if b.startswith("version"))), "id = "
    plan = "\n".join(blocks[first : first + 3])
    assert parse_plan(plan, PROFILES, name="manual").meters[0].timeout_s == 4.0
    start = next(n for n, block in enumerate(blocks) if block.startswith(second))
    path = tmp_path / "example-g4.toml"
    path.write_text("\n".join(blocks[start : start + 6]), "utf-8")
    profile = load_profile(path)
    assert [field.name for field in profile.fields] == ["total", "other_total", "state"]


def test_a_plan_without_meters_is_a_plan() -> None:
    assert parse_plan('gateway = "gw-new"\n', PROFILES, name="plan.toml").meters == ()
