"""Counters of messages: gaps, late ones, repeats, restarts, the wrap; and complaints that do not flood."""

from __future__ import annotations

import pytest

from gateway.drivers.mqtt_counters import Complaints, Step, step


@pytest.mark.parametrize(
    ("last", "value", "modulus", "again", "expected"),
    [
        (None, 41, None, False, Step(41)),
        (10, 11, None, False, Step(11)),
        (10, 14, None, False, Step(14, 3)),
        (10, 10, None, False, Step(10)),
        (10, 8, None, False, Step(10)),  # overtaken: 16 or fewer behind
        (10_000, 9_900, None, True, Step(10_000)),  # the broker repeats its queue
        (10_000, 0, None, False, Step(0, 0, restarted=True)),
        (255, 0, 256, False, Step(0)),  # 255 is followed by 0
        (254, 1, 256, False, Step(1, 2)),  # 255 and 0 are missing
        (2**32 - 1, 0, 2**32, False, Step(0)),
        (50_000, 3, 2**32, False, Step(3, 0, restarted=True)),  # f_cnt after a join
    ],
)
def test_what_a_counter_says(last: int | None, value: int, modulus: int | None, again: bool, expected: Step) -> None:
    assert step(last, value, modulus, again=again) == expected


def test_the_first_complaint_passes_and_the_next_brings_the_number_of_those_held_back() -> None:
    complaints = Complaints(every_ms=1000)
    assert complaints.note("json", "a", 5_000) == 1
    assert [complaints.note("json", "a", 5_000 + n) for n in (1, 2, 3)] == [0, 0, 0]
    assert complaints.note("json", "b", 5_003) == 1
    assert complaints.note("json", "a", 6_000) == 4


def test_a_flood_of_invented_names_ends_in_one_entry() -> None:
    complaints = Complaints(every_ms=1000)
    said = sum(complaints.note("unknown_device", str(n), 5_000) for n in range(5_000))
    assert said == Complaints.MOST + 1
    assert complaints.note("unknown_device", "one more", 6_000) == 5_000 - Complaints.MOST
