"""The pushed part of a plan: what it means, and how its mistakes are answered."""

from __future__ import annotations

import pytest

from gateway.plan import parse_plan
from gateway.plan_mqtt import matches
from metering.errors import SettingsError

PLAN = """\
gateway = "gw-1"
[[mqtt_bus]]
name = "lorawan"
[[mqtt_meter]]
meter = "G-1"
bus = "lorawan"
device = "0004A30B001C0530"
profile = "ugm-chirpstack"
"""


def test_a_bus_without_topics_takes_those_of_its_meters_profiles() -> None:
    (bus,) = parse_plan(PLAN, {}, name="plan.toml").mqtt
    assert bus.topics == ("application/+/device/+/event/+",)
    assert bus.meters["0004a30b001c0530"].meter == "G-1"
    assert not bus.speaks_sparkplug


@pytest.mark.parametrize(
    ("wanted", "topic", "answer"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/c/d", False),
        ("a/+", "a", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/b", "a/B", False),
        ("+/+", "/x", True),
    ],
)
def test_subscriptions_cover_topics_as_mqtt_says(wanted: str, topic: str, answer: bool) -> None:
    assert matches(wanted, topic) is answer


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        (
            'profile = "ugm-chirpstack"',
            'profile = "ugm-chirpstak"',
            'plan.toml:8: mqtt_meter[0].profile = "ugm-chirpstak": no such MQTT profile; '
            'did you mean "ugm-chirpstack"?',
        ),
        (
            'bus = "lorawan"',
            'bus = "lorawam"',
            'plan.toml:6: mqtt_meter[0].bus = "lorawam": no such mqtt_bus; did you mean "lorawan"?',
        ),
        (
            'name = "lorawan"',
            'name = "lorawan"\ntopics = ["#"]',
            'plan.toml:4: mqtt_bus[0].topics[0] = "#": all topics of a broker, or its own, are no meters',
        ),
        (
            'name = "lorawan"',
            'name = "lorawan"\ntopics = ["a/b+/c"]',
            'plan.toml:4: mqtt_bus[0].topics[0] = "a/b+/c": + stands for a whole level, # only at the end',
        ),
        (
            "[[mqtt_meter]]",
            '[[mqtt_bus]]\nname = "idle"\n[[mqtt_meter]]',
            'plan.toml:5: mqtt_bus[1].name = "idle": has no mqtt_meter; nothing that it brings could be read',
        ),
    ],
)
def test_each_mistake_is_answered_where_it_stands(old: str, new: str, answer: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_plan(PLAN.replace(old, new, 1), {}, name="plan.toml")
    assert answer in caught.value.problems


def test_a_device_in_two_spellings_is_one_device() -> None:
    again = PLAN + '[[mqtt_meter]]\nmeter = "G-2"\nbus = "lorawan"\ndevice = "0004a30b001c0530"\n'
    with pytest.raises(SettingsError) as caught:
        parse_plan(again + 'profile = "ugm-chirpstack"\n', {}, name="plan.toml")
    assert caught.value.problems == [
        'plan.toml:12: mqtt_meter[1].device = "0004a30b001c0530": is already meter "G-1" of bus "lorawan"'
    ]
