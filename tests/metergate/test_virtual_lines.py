"""Every wire of a virtual house, and what can happen on it: seen on the wire, nothing lost, nothing invented."""

from __future__ import annotations

from itertools import pairwise

import pytest

from metering.clock import parse_rfc3339
from metering.reading import Flag
from tests.metergate.virtual_worlds import World, fleet, play_world

STORY = (
    """
title = "five wires"
purpose = "one event a meter or bus, and beside each a meter without any"
seed = 7
start = "2026-02-19"
days = 0.3
gather_s = 900.0
"""
    + fleet("flats", 7, "gas", "fuxin-corrector", protocol="modbus-rtu")
    + fleet("taps", 7, "water", "water-cjt188", protocol="cjt188", baud=2400, per_bus=3)
    + fleet("lamps", 3, "electricity", "electricity-dlt645-2007", protocol="dlt645", line="tcp", per_bus=1)
    + fleet("shops", 5, "gas", "fuxin-corrector", customer_class="commercial", per_bus=1)
    + fleet("pulses", 5, "water", "json-meter", protocol="mqtt")
)
EVENTS = (
    ("flip", 'meters = ["flats-0001"]'),
    ("noise", 'meters = ["flats-0002"]'),
    ("wrong_address", 'meters = ["flats-0003"]'),
    ("late", 'meters = ["flats-0004"]'),
    ("cut", 'meters = ["flats-0005"]'),
    ("spike", 'meters = ["flats-0006"]'),
    ("address_clash", 'meters = ["taps-0001"]'),
    ("low_battery", 'meters = ["taps-0004"]'),
    ("valve_closed", 'meters = ["taps-0005"]'),
    ("exchange", 'meters = ["taps-0006"]\nstart_index = 3.0'),
    ("link_cut", 'bus = "taps-b3"'),
    ("echo", 'bus = "lamps-b1"'),
    ("link_delay", 'bus = "lamps-b2"\nseconds = 0.4'),
    ("link_delay", 'bus = "shops-b1"\nseconds = 0.4'),
    ("half_open", 'bus = "shops-b2"'),
    ("wrong_decode", 'meters = ["shops-0003"]'),
    ("unit_error", 'meters = ["shops-0004"]'),
    ("silent", 'meters = ["pulses-0001"]'),
    ("duplicate", 'meters = ["pulses-0002"]'),
    ("clock_drift", 'meters = ["pulses-0003"]\nclock_s = 3600'),
    ("exchange", 'meters = ["pulses-0004"]\nin_books = false'),
)
HEALTHY = ("flats-0007", "lamps-0003", "shops-0005", "pulses-0005")
POLLS = 15  # in 0.3 days of 1800 s: 14.4, rounded up or down by each meter's own moment


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    events = "".join(f'[[event]]\nkind = "{kind}"\nday = 0.1\nfor_days = 0.1\n{where}\n' for kind, where in EVENTS)
    return play_world(STORY + events, tmp_path_factory.mktemp("lines") / "run")


def test_nothing_is_lost_and_nothing_invented_whatever_happens_on_the_lines(world: World) -> None:
    assert world.problems == []
    assert world.report["stored"]["lost"] == world.report["stored"]["invented"] == 0
    assert world.report["stored"]["readings"] > 200
    assert set(world.report["frames"]["wires"]) == {"modbus-tcp", "modbus-rtu", "cjt188", "dlt645", "mqtt"}


@pytest.mark.parametrize("meter", HEALTHY)
def test_who_has_no_event_is_read_by_plan_beside_those_who_have(world: World, meter: str) -> None:
    assert set(world.outcomes(meter)) == {"ok"}
    assert POLLS - 1 <= len(world.stored(meter)) <= POLLS
    assert world.causes(meter) == set()


@pytest.mark.parametrize(
    ("meter", "outcome", "cause"),
    [
        ("flats-0001", "flip", "frame_length"),
        ("flats-0003", "wrong_address", "timeout"),
        ("flats-0004", "late", "timeout"),
        ("flats-0005", "cut", "frame_length"),
        ("taps-0001", "collision", "timeout"),
        ("taps-0002", "collision", "frame_checksum"),
    ],
)
def test_a_spoiled_answer_is_on_the_wire_and_becomes_a_failed_read(
    world: World, meter: str, outcome: str, cause: str
) -> None:
    assert world.outcomes(meter)[outcome] > 2
    assert world.outcomes(meter)["ok"] > 5, "before and after it answers well"
    assert world.causes(meter) == {cause}


def test_noise_before_an_answer_costs_nothing(world: World) -> None:
    assert world.causes("flats-0002") == set()
    assert len(world.stored("flats-0002")) >= POLLS - 1


def test_two_meters_with_one_address_talk_at_once_and_neither_is_read_until_it_is_mended(world: World) -> None:
    # taps-0001 answers to the address of taps-0002 from 0.1 to 0.2; nobody answers to its own
    for meter in ("taps-0001", "taps-0002"):
        days = [world.day(row["read_at"]) for row in world.stored(meter)]
        assert [day for day in days if 0.1 < day < 0.2] == []
        assert min(days) < 0.1
        assert max(days) > 0.25
    assert world.causes("taps-0003") == set()


def test_states_of_a_meter_are_read_while_they_last(world: World) -> None:
    for meter, flag in (("taps-0004", Flag.LOW_BATTERY), ("taps-0005", Flag.VALVE_CLOSED)):
        told = {round(world.day(row["read_at"]), 3): bool(row["flags"] & flag) for row in world.stored(meter)}
        assert {0.1 <= day < 0.2 for day, on in told.items() if on} == {True}
        assert {0.1 <= day < 0.2 for day, on in told.items() if not on} == {False}


def test_after_an_exchange_the_new_index_is_read_and_the_books_know_both(world: World) -> None:
    rows = [(world.day(row["read_at"]), float(row["volume"])) for row in world.stored("taps-0006")]
    assert {index >= 100 for day, index in rows if day < 0.1} == {True}
    assert {3.0 <= index < 10 for day, index in rows if day > 0.1} == {True}
    house, start = world.house, world.house.scenario.start_ms
    meter = house.by_name["taps-0006"]
    passed = meter.curve.passed(house.scenario.end_ms) - meter.curve.passed(start)
    # 0.01 at each of four readings of the dials
    assert abs(house.fleet.counted(meter, start, house.scenario.end_ms) - passed) <= 40_000


def test_a_cut_line_is_found_again_when_it_is_mended(world: World) -> None:
    assert "connect" in world.causes("taps-0007")
    days = [world.day(row["read_at"]) for row in world.stored("taps-0007")]
    assert not [day for day in days if 0.1 < day < 0.2]
    assert [day for day in days if 0.2 < day < 0.21], "it is looked for again all the time"


def test_an_adapter_that_hears_itself_and_a_slow_way_cost_no_reading(world: World) -> None:
    for meter in ("lamps-0001", "lamps-0002", "shops-0001"):
        assert world.causes(meter) == set()
        assert len(world.stored(meter)) >= POLLS - 1


def test_a_slow_way_shows_in_the_times_of_the_answers(world: World) -> None:
    """Asked by its plan each 1800 s: what comes 0.4 s later by day 0.1 came 0.4 s sooner before."""
    times = [answer.at_ms for answer in world.answers if answer.meter == "shops-0001"]
    assert sorted({later - sooner for sooner, later in pairwise(times)}) == [
        1_799_600, 1_800_000, 1_800_400,
    ]  # fmt: skip


def test_a_half_open_connection_is_given_up_and_another_one_made(world: World) -> None:
    assert world.causes("shops-0002") == {"timeout"}
    days = [world.day(row["read_at"]) for row in world.stored("shops-0002")]
    assert not [day for day in days if 0.1 < day < 0.2]
    assert [day for day in days if 0.2 < day < 0.21]


def test_what_a_register_says_wrongly_is_kept_as_it_was_said_or_held_back(world: World) -> None:
    for meter in ("shops-0003", "shops-0004"):
        wrong = {answer.index for answer in world.answers if answer.meter == meter and _within(world, answer.at_ms)}
        right = {answer.index for answer in world.answers if answer.meter == meter} - wrong
        assert min(index for index in wrong if index is not None) > max(index for index in right if index is not None)


def test_an_index_of_zero_for_one_read_is_said_once(world: World) -> None:
    assert [answer.index for answer in world.answers if answer.meter == "flats-0006"].count(0) == 1


def test_messages_that_are_lost_on_the_radio_are_missing_and_doubled_ones_are_stored_once(world: World) -> None:
    lost = world.outcomes("pulses-0001")
    assert lost["dropped"] > 2
    assert len(world.stored("pulses-0001")) == lost["ok"]
    assert len(world.stored("pulses-0002")) == world.outcomes("pulses-0002")["ok"] >= POLLS - 1
    assert world.house.wires["mqtt"].seen > world.house.wires["mqtt"].sent - lost["dropped"], "doubled on the wire"


def test_a_clock_that_goes_wrong_is_seen_in_the_meters_own_times(world: World) -> None:
    """One hour a day for a tenth of a day: six minutes fast at the end."""
    said = [answer.at_ms for answer in world.answers if answer.meter == "pulses-0003"]
    stored = [parse_rfc3339(row["read_at"]) for row in world.stored("pulses-0003")]
    off = [kept - at for at, kept in zip(said, stored, strict=True)]
    assert off[0] == 0
    assert off[-1] == max(off)
    assert 270_000 <= off[-1] <= 360_000


def test_an_exchange_that_nobody_wrote_down_shows_as_an_index_that_begins_anew(world: World) -> None:
    rows = [float(row["volume"]) for row in world.stored("pulses-0004")]
    assert rows[0] > 100
    assert rows[-1] < 10


def _within(world: World, at_ms: int) -> bool:
    return 0.1 <= (at_ms - world.house.scenario.start_ms) / 86_400_000 < 0.2
