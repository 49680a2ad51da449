"""Figures of other services: only what makes a valid page."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import ApiMetrics, Sample, is_name, parse_labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", ()),
        ('reason="conflict"', (("reason", "conflict"),)),
        ('b="2", a="1"', (("a", "1"), ("b", "2"))),
        (r'a="x\"y\\z\n"', (("a", 'x"y\\z\n'),)),
    ],
)
def test_labels_are_taken_apart(text: str, labels: tuple[tuple[str, str], ...]) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    "text",
    ["a", "a=1", 'a="1" b="2"', 'a="1","b"', 'a="1"} 5', 'a="1",a="2"', 'meter="M1"', 'meter_id="M1"', '1a="x"'],
)
def test_what_is_no_set_of_labels_is_refused_and_so_is_a_meter(text: str) -> None:
    with pytest.raises(ValueError, match="not a set of labels"):
        parse_labels(text)


@pytest.mark.parametrize(
    ("name", "good"), [("a_b2", True), ("2a", False), ("a b", False), ("a\n", False), ("", False)]
)
def test_names_are_those_that_prometheus_takes(name: str, good: bool) -> None:
    assert is_name(name) is good


def test_a_page_stays_valid_when_figures_contradict_each_other() -> None:
    samples = [
        Sample("x_total", (("a", "1"),), 1.0),
        Sample("x_total", (("a", "1"),), 2.0),  # the same again
        Sample("x_total", (), 3.0),  # other labels
        Sample("x", (("a", "1"),), 4.0),  # the same name as a gauge
        Sample("x_total", (("a", "2"),), 5.0),
    ]
    page = ApiMetrics().page(lambda: samples).decode()
    found = [
        s for family in text_string_to_metric_families(page) for s in family.samples if s.name[:12] == "metergate_x_"
    ]
    assert [(s.labels, s.value) for s in found] == [({"a": "1"}, 1.0), ({"a": "2"}, 5.0)]
