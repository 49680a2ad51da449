"""Thresholds: overrides by medium, class and meter, effective dates, and mistakes named with the nearest spelling."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from anomaly.meters import Meter, MeterTable
from anomaly.thresholds import load_thresholds
from metering.errors import SettingsError

TABLE = MeterTable([Meter("A"), Meter("B", medium="water"), Meter("C", customer_class="restaurant")])
DAY = date(2026, 3, 1)


def params(folder: Path, text: str) -> Path:
    path = folder / "params.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_differ_by_class():
    values = load_thresholds().resolve("zero_use.min_days", TABLE, DAY)
    assert values.tolist() == [7.0, 7.0, 5.0]


def test_file_is_laid_over_the_defaults_and_later_entries_win(tmp_path: Path):
    text = """
version = "mine"
[defaults]
"zero_use.min_days" = 10
[[override]]
medium = "water"
set = { "zero_use.min_days" = 12 }
[[override]]
meter = "C"
set = { "zero_use.min_days" = 3 }
"""
    thresholds = load_thresholds(params(tmp_path, text))
    assert thresholds.version == "mine"
    assert thresholds.resolve("zero_use.min_days", TABLE, DAY).tolist() == [10.0, 12.0, 3.0]


def test_fleet_wide_thresholds_follow_the_file_too(tmp_path: Path):
    thresholds = load_thresholds(params(tmp_path, '[defaults]\n"engine.late_h" = 8\n'))
    assert thresholds.number("engine.late_h") == 8.0
    assert load_thresholds().number("engine.late_h") == 4.0


def test_value_counts_from_its_date_on(tmp_path: Path):
    text = '[[override]]\nfrom = 2026-03-10\nset = { "zero_use.min_days" = 20 }\n'
    thresholds = load_thresholds(params(tmp_path, text))
    assert thresholds.resolve("zero_use.min_days", TABLE, date(2026, 3, 9))[0] == 7.0
    assert thresholds.resolve("zero_use.min_days", TABLE, date(2026, 3, 10))[0] == 20.0
    assert thresholds.change_days() == {date(2026, 3, 10)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[defaults]\n"zero_use.min_day" = 3\n', "did you mean 'zero_use.min_days'"),
        ('[defaults]\n"zero_use.min_days" = "long"\n', "is not a number"),
        ('[defaults]\n"zero_use.min_days" = -1\n', "must be 0 or more"),
        ('[[override]]\nmedium = "steam"\nset = {}\n', "medium 'steam'"),
        ('[[override]]\nclass = "castle"\nset = {}\n', "class 'castle'"),
        ('[[override]]\nfrom = "soon"\nset = {}\n', "is not a date"),
        ("[[override]]\ncity = 1\n", "'city' is not known"),
        ("[rules]\n", "'rules' is not known"),
        ("= 3\n", "params.toml"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str):
    with pytest.raises(SettingsError) as caught:
        load_thresholds(params(tmp_path, text))
    assert words in str(caught.value)


def test_absent_file_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load_thresholds(tmp_path / "none.toml")


def test_manual_names_every_threshold_with_its_default():
    page = (Path(__file__).parents[2] / "docs" / "anomaly.md").read_text(encoding="utf-8")
    for name, value in load_thresholds().defaults.items():
        assert f"| `{name}` | {value:g} |" in page, name
