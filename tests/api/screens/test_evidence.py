"""Every number that the rules put into a finding has a name and a unit on the pages, in both languages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from api.screens.evidence import UNITS, shown
from api.screens.texts import LANGUAGES, Texts, catalogue
from metering.steps import Step

ANOMALY = Path(__file__).parents[3] / "anomaly"
FILES = sorted(path for path in ANOMALY.rglob("*.py") if path.name not in ("backtest.py", "scoring.py", "report.py"))
KEPT_ELSEWHERE = {"thresholds", "rule_version", "repeats"}
"""Columns of a finding of their own (`anomaly.memory.facts_of`)."""


def keys_of(source: str) -> set[str]:
    """Keys of the dictionaries that a file gives to a Verdict, or calls evidence or proof."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="Verdict"), args=arguments, keywords=more):
                values = [*arguments[3:4], *(each.value for each in more if each.arg == "evidence")]
            case ast.Assign(targets=[ast.Name(id="evidence" | "proof")], value=value):
                values = [value]
            case ast.keyword(arg="evidence", value=value):
                values = [value]
            case _:
                continue
        for value in values:
            if isinstance(value, ast.Dict):
                found |= {str(key.value) for key in value.keys if isinstance(key, ast.Constant)}
    return found


def test_every_key_of_the_rules_has_a_name_and_a_unit_and_no_name_is_left_over() -> None:
    keys = set[str]().union(*(keys_of(path.read_text("utf-8")) for path in FILES)) - KEPT_ELSEWHERE
    assert {"held_per_h", "silent_h", "step", "scope"} <= keys  # of a rule, of silences, of events, of outages
    assert set(UNITS) == keys
    for language in LANGUAGES:
        assert {key.partition(".")[2] for key in catalogue(language) if key.startswith("evidence.")} == keys


def test_a_new_key_of_a_rule_is_seen() -> None:
    assert keys_of("return Verdict(on, hold, back, {'brand_new': a})") == {"brand_new"}
    assert keys_of("evidence = {'x': 1}\nraise_(evidence={'y': 2})\nproof = {'z': 3}") == {"x", "y", "z"}


def test_every_word_among_the_numbers_has_a_name() -> None:
    for step in Step:
        assert f"evidence_step.{step.name.lower()}" in catalogue("zh")
    for scope in ("bus", "gateway", "district"):
        assert f"evidence_scope.{scope}" in catalogue("zh")


@pytest.mark.parametrize(
    ("key", "value", "english", "chinese"),
    [
        ("held_per_h", 4.25, ("flow that was held", "4.25 m³/h"), ("持续流量", "4.25 m³/h")),
        ("share_of_qmax", 0.708333, ("share of Qmax", "70.8 %"), ("占最大流量之比", "70.8 %")),
        ("days_at_rest", 12.0, ("days without use", "12 d"), ("连续无用量", "12 天")),
        ("silent_h", 30.5, ("silent for", "30.5 h"), ("无数据时长", "30.5 小时")),
        ("index", 12345.678901, ("index", "12345.678901 m³"), ("表底数", "12345.678901 m³")),
        ("month_rate", 1234.56, ("use in 30 days at this rate", "1235 m³"), ("按此折合 30 天用量", "1235 m³")),
        (
            "step",
            "unit_change",
            ("step of the index", "unit or multiplier changed"),
            ("表底数变化", "单位或倍率改变"),
        ),
        ("scope", "gateway", ("concerns", "a gateway"), ("范围", "网关")),
        ("not_listed", [1], ("not_listed", "[1]"), ("not_listed", "[1]")),
        ("meters", "many", ("meters", "many"), ("表计数", "many")),
    ],
)
def test_a_number_has_a_name_a_value_and_a_unit(
    key: str, value: object, english: tuple[str, str], chinese: tuple[str, str]
) -> None:
    assert list(shown({key: value}, Texts("en"), "m3")) == [english]
    assert list(shown({key: value}, Texts("zh"), "m3")) == [chinese]


def test_a_meter_without_a_known_unit_shows_the_number_alone() -> None:
    assert list(shown({"rate_per_h": 0.5}, Texts("en"), "")) == [("flow that does not stop", "0.5")]
