"""The calendar of a scenario: days off, the season of heating, and what contradicts itself."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from metering.errors import SettingsError
from metering.settings import parse
from simulators.scenario import Scenario
from simulators.scenario_calendar import CalendarSettings, check_calendar, heated, weekdays_of
from simulators.scenario_fleet import make_meters, weather_of

HOMES = """
title = "homes"
purpose = "calendar and weather"
seed = 5
start = "2026-01-12"
days = 4
history_days = 3
[weather]
warmer_c = 1.0
[[weather.spell]]
day = 1
for_days = 2
warmer_c = -12.0
[[fleet]]
name = "boilers"
count = 4
medium = "gas"
customer_class = "residential_heating"
profile = "fuxin-corrector"
"""


def test_a_holiday_is_lived_as_a_sunday_and_a_make_up_day_as_a_monday() -> None:
    calendar = CalendarSettings(holidays=(date(2026, 6, 19),), workdays=(date(2026, 6, 20),))
    # 18 June 2026 was a Thursday
    assert weekdays_of(calendar, date(2026, 6, 18), 4).tolist() == [3, 6, 0, 6]


def test_nobody_heats_outside_of_the_season_however_cold_it_is() -> None:
    calendar, cold = CalendarSettings(heating_from="11-07", heating_until="03-25"), np.zeros(365)
    felt, first = heated(calendar, date(2026, 1, 1), cold, np.random.default_rng(1))
    assert first == 0, "in January the season has long begun"
    days = [date(2026, 1, 1).toordinal() + n for n in range(365)]
    warm = {date.fromordinal(day) for day, celsius in zip(days, felt, strict=True) if celsius > 15.5}
    assert min(warm) <= date(2026, 4, 5)
    assert min(warm) >= date(2026, 3, 15)
    assert max(warm) <= date(2026, 11, 17)
    assert max(warm) >= date(2026, 10, 27)


def test_a_summer_without_any_heating_says_so() -> None:
    felt, first = heated(CalendarSettings(), date(2026, 6, 1), np.zeros(30), np.random.default_rng(1))
    assert first == 30
    assert (felt > 15.5).all()


def test_a_day_is_off_or_worked_and_a_season_has_two_ends() -> None:
    day = date(2026, 5, 1)
    assert [field for field, _, _ in check_calendar(CalendarSettings(holidays=(day,), workdays=(day,)))] == [
        "workdays"
    ]
    odd = CalendarSettings(heating_from="11-07", heating_until="11-07")
    assert [field for field, _, _ in check_calendar(odd)] == ["heating_until"]
    with pytest.raises(SettingsError, match=r"calendar\.heating_from"):
        parse(HOMES + '[calendar]\nheating_from = "11-31"', Scenario, name="x.toml")


def test_a_cold_snap_makes_its_days_colder_and_homes_that_heat_use_more() -> None:
    story = parse(HOMES, Scenario, name="homes.toml")
    plain = story.model_copy(update={"weather": story.weather.model_copy(update={"spell": ()})})
    apart = np.round(weather_of(story, 7) - weather_of(plain, 7), 1)
    assert apart.tolist() == [0, 0, 0, 0, -12, -12, 0], "three days of history come first"
    snap, usual = ([m.trace.use.reshape(-1, 96)[4:6].sum() for m in make_meters(s, {})] for s in (story, plain))
    assert sum(snap) > 1.4 * sum(usual)


def test_what_is_drawn_for_an_event_is_a_place_that_is_lived_in() -> None:
    event = '[[event]]\nkind = "reverse_flow"\nday = 1\ngroup = "boilers"\ncount = 4'
    empty = {"vacant", "uncommissioned_idle", "move_in", "valve_closed"}
    for seed in range(20):
        story = parse(HOMES + event, Scenario, name="homes.toml").model_copy(update={"seed": seed})
        assert not any(s.kind in empty for m in make_meters(story, {}) for s in m.trace.situations)


def test_a_run_that_is_cut_short_has_none_of_the_events_behind_its_end() -> None:
    event = '[[event]]\nkind = "high_use"\nday = 3\ngroup = "boilers"\nper_month = 90.0'
    story = parse(HOMES + event, Scenario, name="homes.toml").model_copy(update={"days": 2.0})
    assert not any(label.kind == "high_use" for m in make_meters(story, {}) for label in m.trace.labels)
