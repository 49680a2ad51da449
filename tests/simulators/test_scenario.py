"""Scenarios: what is refused and how it is said, what is drawn from the seed, and the truth of the curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.profiles import load_profiles
from metering.errors import SettingsError
from metering.quantities import MICRO
from simulators.scenario import Scenario, load_scenario, meter_names
from simulators.scenario_curve import QUARTER_MS, Misread, TraceCurve
from simulators.scenario_fleet import SimMeter, make_meters, share_out

ROOT = Path(__file__).resolve().parent.parent.parent
MEDIA = {name: profile.medium for name, profile in load_profiles().items()}
DIGITS = {"usw-ultrasonic": 8, "fuxin-corrector": 8}
HEAD = """title = "t"
purpose = "p"
seed = 5
start = "2026-03-01"
days = 20
[[fleet]]
name = "taps"
count = 6
medium = "water"
customer_class = "residential"
profile = "usw-ultrasonic"
per_bus = 4
"""


def read(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "story.toml"
    path.write_text(text)
    return load_scenario(path, profiles=MEDIA)


def meters(tmp_path: Path, events: str = "", **changes: object) -> dict[str, SimMeter]:
    story = read(tmp_path, HEAD + events).model_copy(update=changes)
    return {meter.name: meter for meter in make_meters(story, DIGITS)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD.replace("usw-ultrasonic", "usw-ultrasonik"), 'story.toml:11: fleet[0].profile = usw-ultrasonik: no'),
        (HEAD.replace("usw-ultrasonic", "fuxin-corrector"), "fleet[0].profile = fuxin-corrector: is for gas"),
        (HEAD + '[[event]]\nkind = "leak"\nday = 20\ngroup = "taps"', "event[0].day = 20.0: begins at or after"),
        (HEAD + '[[event]]\nkind = "leak"\nday = 2\ngroup = "tabs"', 'did you mean "taps"'),
        (HEAD + '[[event]]\nkind = "leak"\nday = 2\nfor_days = -1\ngroup = "taps"', "event[0].for_days = -1"),
        (HEAD + '[[event]]\nkind = "leek"\nday = 2\ngroup = "taps"', "event[0].kind"),
        (HEAD + '[[event]]\nkind = "leak"\nday = 2\nbus = "taps-b1"', "takes exactly one of meters, group, not bus"),
        (HEAD + '[[event]]\nkind = "broker_off"\nday = 2\ngroup = "taps"', "takes no meters, group, bus or gateway"),
        (HEAD + '[[event]]\nkind = "silent"\nday = 2\nmeters = ["taps-0009"]', "event[0].meters = taps-0009: there"),
        (HEAD + '[[event]]\nkind = "leak"\nday = 2\ngroup = "taps"\ncount = 7', "the group has 6 meters"),
        (HEAD.replace("residential", "industrial"), "no consumption is known for water industrial"),
        (HEAD + 'protocol = "cjt188"', "fleet[0].protocol = cjt188: meters of usw-ultrasonic speak modbus-"),
        (HEAD + '[[event]]\nkind = "flip"\nday = 2\ngroup = "taps"', "speak modbus-tcp; it shows on cjt188"),
        (HEAD + '[[event]]\nkind = "echo"\nday = 2\nbus = "taps-b1"', "event[0].kind = echo: meters of taps"),
        (HEAD + '[[event]]\nkind = "link_cut"\nday = 2\nbus = "taps-b1"\ngateway = "gw-1"', "not bus, gateway"),
        (
            HEAD.replace("[[fleet]]", 'broker = "wire"\n[[fleet]]')
            + '[[event]]\nkind = "link_cut"\nday = 2\ngateway = "gw-1"',
            'event[0].kind = link_cut: at a gateway it needs broker = "memory"',
        ),
        (HEAD + 'habit = "sauna"', 'habit "sauna" is unknown; allowed: taps, drip'),
        (HEAD.replace("[[fleet]]", 'tz = "Asia/Atlantis"\n[[fleet]]'), "tz = Asia/Atlantis: no such time zone"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as told:
        read(tmp_path, text)
    assert said in str(told.value)


def test_two_stories_of_one_meter_at_one_time_are_refused(tmp_path: Path) -> None:
    events = """
[[event]]
kind = "leak"
day = 2
for_days = 5
meters = ["taps-0001"]
[[event]]
kind = "zero_use"
day = 6
meters = ["taps-0001"]
"""
    with pytest.raises(SettingsError, match=r"event\[1\].kind = zero_use: contradicts leak at taps-0001 on day 6"):
        meters(tmp_path, events)


def test_one_story_after_the_other_and_one_of_the_line_beside_it_are_welcome(tmp_path: Path) -> None:
    events = """
[[event]]
kind = "leak"
day = 2
for_days = 4
meters = ["taps-0001"]
[[event]]
kind = "zero_use"
day = 6
meters = ["taps-0001"]
[[event]]
kind = "late"
day = 3
meters = ["taps-0001"]
"""
    assert [event.kind for event, _, _ in meters(tmp_path, events)["taps-0001"].events] == [
        "leak",
        "zero_use",
        "late",
    ]


def test_a_leak_adds_its_rate_to_what_went_through_and_says_so_in_the_labels(tmp_path: Path) -> None:
    leak = '[[event]]\nkind = "leak"\nday = 4\nfor_days = 2\nmeters = ["taps-0003"]\nrate = 0.5\n'
    plain, leaking = meters(tmp_path)["taps-0003"], meters(tmp_path, leak)["taps-0003"]
    start = round(leaking.facts.start * 1000)
    day = 86_400_000
    extra = leaking.curve.passed(start + 6 * day) - plain.curve.passed(start + 6 * day)
    extra -= leaking.curve.passed(start + 4 * day) - plain.curve.passed(start + 4 * day)
    assert abs(extra - 24 * MICRO) < MICRO // 2, "0.5 m3 an hour for 48 hours, within the seven percent that it sways"
    before = [meter.curve.passed(start + 4 * day) - meter.curve.passed(start) for meter in (plain, leaking)]
    assert before[0] == before[1]
    assert [(label.kind, label.severity) for label in leaking.trace.labels if label.kind == "leak"] == [
        ("leak", "burst")
    ]


def test_the_seed_decides_who_is_struck_and_a_meter_does_not_depend_on_the_others(tmp_path: Path) -> None:
    event = '[[event]]\nkind = "stuck"\nday = 4\ngroup = "taps"\ncount = 2\n'
    struck = [{m.name for m in meters(tmp_path, event, seed=s).values() if m.events} for s in (5, 5, 6, 7, 8)]
    assert struck[0] == struck[1]
    assert len({frozenset(names) for names in struck}) > 1
    alone = read(tmp_path, HEAD.replace("count = 6", "count = 1"))
    moment = alone.start_ms + 3 * 86_400_000
    assert make_meters(alone, DIGITS)[0].curve.index(moment) == meters(tmp_path)["taps-0001"].curve.index(moment)


def test_meters_hang_on_their_buses_in_order(tmp_path: Path) -> None:
    places = [(m.bus, m.unit) for m in meters(tmp_path).values()]
    first = [("taps-b1", unit) for unit in (1, 2, 3, 4)]
    assert places == [*first, ("taps-b2", 1), ("taps-b2", 2)]


def test_a_counter_is_placed_so_that_it_runs_over_at_the_named_moment(tmp_path: Path) -> None:
    meter = meters(tmp_path, '[[event]]\nkind = "rollover"\nday = 5\nmeters = ["taps-0001"]\n')["taps-0001"]
    at = round(meter.facts.start * 1000) + 5 * 86_400_000
    assert meter.curve.index(at) == 10**8 * MICRO


def test_a_curve_is_straight_between_quarter_hours_and_stands_before_and_behind() -> None:
    curve = TraceCurve([1_000, 2_000, 1_400], 0)
    assert [curve.index(t) for t in (-5, 0, 90_000, QUARTER_MS, QUARTER_MS + 450_000, 2 * QUARTER_MS, 10**9)] == [
        1_000, 1_000, 1_100, 2_000, 1_700, 1_400, 1_400,
    ]  # fmt: skip
    assert curve.flow(0) == 4_000
    assert curve.flow(QUARTER_MS) == 0, "a counter that runs back shows no rate"


def test_a_wrong_unit_changes_what_is_shown_and_not_what_went_through() -> None:
    curve = TraceCurve([1_000, 2_000], 0, (Misread("scale", 450_000, 600_000, 10, 1),))
    assert curve.index(449_999) == 1_499
    assert curve.index(450_000) == 15_000
    assert curve.passed(450_000) == 1_500
    assert curve.index(600_000) == 1_666, "the unit was put right"


def test_words_the_wrong_way_round_are_shown_and_nothing_else_changes() -> None:
    # 1234.56 is 123456 hundredths, 0x0001E240; the other way round 0xE2400001, 3795845121 hundredths
    curve = TraceCurve([1_234_560_000, 1_234_560_000], 0, (Misread("words", 100, 200),))
    assert [curve.index(t) for t in (99, 100, 200)] == [1_234_560_000, 37_958_451_210_000, 1_234_560_000]


def test_after_an_exchange_the_new_meter_counts_on_from_its_own_start() -> None:
    curve = TraceCurve([1_000, 2_000, 3_000], 0, (), ((450_000, 70),))
    assert [curve.index(t) for t in (449_999, 450_000, QUARTER_MS)] == [1_499, 70, 570]
    assert curve.passed(QUARTER_MS) == 2_000
    assert [(e.at, e.final, e.start) for e in curve.exchanges] == [(450_000, 1_500, 70)]


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios").glob("*.toml")), ids=lambda path: path.name)
def test_every_scenario_that_ships_is_sound_and_described(path: Path) -> None:
    story = load_scenario(path, profiles=MEDIA)
    assert set(share_out(story)) <= set(meter_names(story))
    assert f"## {path.name}" in (ROOT / "docs" / "scenarios.md").read_text("utf-8")
