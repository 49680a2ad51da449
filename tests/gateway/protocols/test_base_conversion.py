"""Base conversion: golden values, laws, refusals."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from gateway.protocols import base_conversion as bc
from gateway.protocols import golden
from gateway.protocols.base_conversion import CHINA, NORMAL, BaseState, StandardVolume
from metering.quantities import MICRO
from tests.gateway.protocols import wire_checks


def test_every_golden_value_is_computed() -> None:
    assert wire_checks.assert_golden("gas-base-conversion") == 3


def test_base_state_travels_with_the_value_and_rebasing_follows_the_temperatures() -> None:
    at_20 = bc.to_base(1000 * MICRO, pressure=101_325_000, temperature=0, base=CHINA)
    at_0 = bc.rebase(at_20, NORMAL)
    assert at_20.base == CHINA
    assert at_20.volume == 1_073_219_843  # 293.15 / 273.15 = 1.0732198426
    assert at_0 == StandardVolume(1000 * MICRO, NORMAL)
    assert str(NORMAL) == "0 degC, 101.325 kPa"


def test_golden_case_by_hand() -> None:
    # 301.325/101.325 x 293.15/283.15 x 0.998/0.995 = 2.973846... x 1.035316... x 1.003015... = 3.088156818
    volume = bc.to_base(
        1000 * MICRO, pressure=301_325_000, temperature=10 * MICRO, z=995_000, base=BaseState(z=998_000)
    ).volume
    assert volume == 3_088_156_818


def test_conversion_is_exact_until_one_rounding_at_the_end() -> None:
    chance = random.Random(4)
    for _ in range(500):
        vm, p, t = chance.randrange(10**13), chance.randrange(1, 10**9), chance.randrange(-40 * MICRO, 60 * MICRO)
        exact = Fraction(vm * p * 293_150_000, 101_325_000 * (t + 273_150_000))
        assert abs(bc.to_base(vm, pressure=p, temperature=t).volume - exact) <= Fraction(1, 2)


def test_rebasing_there_and_back_loses_at_most_one_millionth() -> None:
    value = StandardVolume(12_345_678_901, CHINA)
    assert abs(bc.rebase(bc.rebase(value, NORMAL), CHINA).volume - value.volume) <= 1


@pytest.mark.parametrize(
    "bad", [{"pressure": 0}, {"pressure": -1}, {"temperature": -273_150_000}, {"z": 0}, {"z": -MICRO}]
)
def test_impossible_states_are_refused(bad: dict[str, int]) -> None:
    state = {"pressure": 101_325_000, "temperature": 0} | bad
    with pytest.raises(ValueError, match=r"above|zero"):
        bc.to_base(1, pressure=state["pressure"], temperature=state["temperature"], z=state.get("z", MICRO))
    with pytest.raises(ValueError, match=r"above|zero"):
        BaseState(**state)


def test_result_beyond_int64_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        bc.to_base(2**62, pressure=10**9, temperature=0)


def test_gauge_pressure_becomes_absolute_by_the_air_at_the_altitude() -> None:
    assert bc.absolute_pressure(3 * MICRO) == 104_325_000
    assert bc.atmosphere_at(0) == 101_325_000
    assert bc.atmosphere_at(1000) == pytest.approx(89_875_000, rel=1e-4)  # ISO 2533: 898.75 hPa at 1000 m
    for altitude in (-501, 9001, float("nan")):
        with pytest.raises(ValueError, match="altitude"):
            bc.atmosphere_at(altitude)


def test_device_and_computation_may_differ_by_one_percent() -> None:
    assert not bc.disagrees(101 * MICRO, 100 * MICRO)
    assert bc.disagrees(101 * MICRO + 1, 100 * MICRO)
    assert bc.disagrees(1, 0)


@pytest.mark.parametrize(
    ("given", "sort"),
    [
        ({"vm": 1, "p_abs_kpa": 0, "t_c": 20}, "range"),
        ({"vm": 1, "p_abs_kpa": 101.325}, "input"),
        ({"vm": "x", "p_abs_kpa": 101.325, "t_c": 20}, "input"),
        ({"vm": float("nan"), "p_abs_kpa": 101.325, "t_c": 20}, "input"),
        ({"vm": 1e300, "p_abs_kpa": 101.325, "t_c": 20}, "input"),
        ({"vm": True, "p_abs_kpa": 101.325, "t_c": 20}, "input"),
    ],
)
def test_bad_input_is_refused_by_its_sort(given: dict[str, object], sort: str) -> None:
    entry = {"protocol": "gas-base-conversion", "hex": "", "input": given, "expect": {"valid": False, "error": sort}}
    assert golden.judge(entry) == []


def test_random_bytes_give_an_answer_or_our_error() -> None:
    adapt = golden.adapter_of("gas-base-conversion")
    codec = wire_checks.Codec(lambda raw: adapt("gas-base-conversion", raw, {}))
    sample = b'{"vm": 1.0, "p_abs_kpa": 102.212, "t_c": 21.649, "z": 1.0, "pb_kpa": 101.325, "tb_c": 20.0, "zb": 1.0}'
    assert wire_checks.assert_random_bytes_harmless(codec, [sample]) > 100
