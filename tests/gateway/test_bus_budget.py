"""What a sweep costs, worked by hand from the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.bus_budget import budgets
from gateway.plan import Plan, PlanFile, make_plan, parse_plan
from gateway.profiles import load_profiles
from metergate.__main__ import build
from metering.errors import SettingsError

PROFILES = load_profiles()
BUS = '[[bus]]\nname = "b"\nkind = "serial"\ndevice = "/dev/x"\n'


def _plan(interval_s: float, count: int, profile: str = "fuxin-corrector", **bus: Any) -> Plan:
    line = {"name": "b", "kind": "serial", "device": "/dev/ttyS9", "turnaround_s": 0.02} | bus
    address = {} if profile == "fuxin-corrector" else {"address": "00000805000001"}
    meters = [
        {"meter": f"G-{n}", "bus": "b", "unit": n, "profile": profile, "interval_s": interval_s} | address
        for n in range(1, count + 1)
    ]
    return make_plan(PlanFile.model_validate({"gateway": "g", "bus": [line], "meter": meters}), PROFILES)


def test_a_modbus_poll_is_its_bytes_its_turnaround_and_its_silence() -> None:
    """14 registers: 8 + 33 bytes of 10 bits at 9600 baud are 42.71 ms; 20 ms, 3.65 ms silence, 2 ms ours."""
    (budget,) = budgets(_plan(60.0, 1))
    assert budget.sweep_s == pytest.approx(0.04271 + 0.020 + 0.003646 + 0.002, abs=1e-5)
    assert budget.fits


def test_a_cjt188_poll_at_2400_baud() -> None:
    """4 FE and 16 bytes, 4 FE and 35 bytes of 11 bits: 59 * 11 / 2400 = 270.4 ms; 20 ms, 16.04 ms, 2 ms."""
    (budget,) = budgets(_plan(60.0, 1, "water-cjt188", baud=2400, parity="even"))
    assert budget.sweep_s == pytest.approx(0.27042 + 0.020 + 0.01604 + 0.002, abs=1e-4)


def test_a_plan_that_cannot_meet_its_intervals_is_refused_with_its_dearest_meters() -> None:
    """32 polls of 68.4 ms are 2.19 s: every 3 s it fits, every 2 s it does not."""
    (fits,) = budgets(_plan(3.0, 32))
    assert fits.fits
    (budget,) = budgets(_plan(2.0, 32))
    assert not budget.fits
    said = budget.fault()
    assert "32 meters, a sweep takes 2.2 s, load 109%" in said
    assert "G-1 0.07 s every 2 s (3.4%)" in said
    assert "1.2 times as long" in said


def test_other_buses_have_no_budget() -> None:
    plan = make_plan(
        PlanFile.model_validate({"gateway": "g", "bus": [{"name": "t", "host": "10.0.0.1"}], "meter": []}), PROFILES
    )
    assert budgets(plan) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[bus]]\nname = "b"\nkind = "serial"', 'bus[0].device = "": a serial bus needs the path of its port'),
        ('[[bus]]\nname = "b"\nkind = "serial-tcp"\nhost = "h"', "bus[0].port: a serial-tcp bus needs the TCP port"),
        ('[[bus]]\nname = "b"\nkind = "serail"\ndevice = "/dev/x"', "serial"),
        (
            BUS + '[[bus]]\nname = "c"\nkind = "serial"\ndevice = "/dev/x"',
            'bus[1].device = "/dev/x": /dev/x is already bus "b"; one bus per address',
        ),
        (
            '[[bus]]\nname = "b"\nhost = "h"\n[[meter]]\nmeter = "W"\nbus = "b"\nprofile = "water-cjt188"\n'
            'address = "00000805000001"',
            'meter[0].bus = "b": is modbus-tcp; water-cjt188 speaks cjt188',
        ),
        (
            '[[bus]]\nname = "b"\nkind = "serial"\ndevice = "/dev/x"\n[[meter]]\nmeter = "W"\nbus = "b"\n'
            'profile = "water-cjt188"\naddress = "123"',
            "meter[0].address = \"123\": address '123': 14 digits are needed",
        ),
        (
            BUS + 'protocol = "modbus-rtu"\n[[meter]]\nmeter = "W"\n'
            'bus = "b"\nprofile = "water-cjt188"\naddress = "00000805000001"',
            'meter[0].profile = "water-cjt188": speaks cjt188, bus "b" modbus-rtu',
        ),
        (
            BUS + '[[meter]]\nmeter = "A"\nbus = "b"\nprofile = "water-mbus"\naddress = "5"\n'
            '[[meter]]\nmeter = "B"\nbus = "b"\nprofile = "water-mbus"\naddress = "5"',
            'meter[1].address = "5": is already meter "A" of bus "b"',
        ),
    ],
)
def test_a_serial_plan_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_plan(f'gateway = "g"\n{text}\n', PROFILES, name="plan.toml")
    assert said in str(caught.value)


def test_check_refuses_a_plan_that_is_too_dense(tmp_path: Path) -> None:
    meters = "".join(
        f'[[meter]]\nmeter = "G-{n}"\nbus = "b"\nunit = {n}\nprofile = "fuxin-corrector"\ninterval_s = 2\n'
        for n in range(1, 33)
    )
    path = tmp_path / "plan.toml"
    path.write_text(f'gateway = "g"\n{BUS}{meters}')
    refused = CliRunner().invoke(build(), ["check", str(path)])
    assert refused.exit_code == 2
    assert 'plan.toml: bus "b" at 9600 8N1: 32 meters' in refused.stderr
    path.write_text(f'gateway = "g"\n{BUS}{meters}'.replace("interval_s = 2\n", "interval_s = 20\n"))
    taken = CliRunner().invoke(build(), ["check", str(path)])
    assert taken.exit_code == 0, taken.stderr
    assert "a sweep takes" in taken.stderr
