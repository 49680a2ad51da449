"""Joining registers into requests: few, within the limits, never through a field; and what the answers mean."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.profile import FlagBit, MeterField, Part
from gateway.profiles import load_profiles
from gateway.protocols.registers import Number, number
from gateway.requests import Found, Request, compile_request, plan_requests, split
from metering.errors import FrameError
from metering.quantities import QUANTITIES
from metering.reading import Flag


def _field(name: str, *registers: int, function: int = 3, flags: tuple[FlagBit, ...] = ()) -> MeterField:
    parts = tuple(Part(register, number("uint32")) for register in registers)
    quantity = None if flags else QUANTITIES[int(name[1:]) % len(QUANTITIES)]
    return MeterField(name, quantity, function, parts, 0, flags)


def _spans(requests: tuple[Request, ...]) -> list[tuple[int, int, int]]:
    return [(r.function, r.start, r.count) for r in requests]


def test_neighbours_within_the_gap_become_one_request() -> None:
    fields = [_field("f0", 0), _field("f1", 2), _field("f2", 12), _field("f3", 30)]
    assert _spans(plan_requests(fields, max_registers=125, max_gap=8)) == [(3, 0, 14), (3, 30, 2)]
    assert _spans(plan_requests(fields, max_registers=125, max_gap=7)) == [(3, 0, 4), (3, 12, 2), (3, 30, 2)]
    assert _spans(plan_requests(fields, max_registers=125, max_gap=16)) == [(3, 0, 32)]


def test_the_limit_of_the_converter_parts_a_long_block() -> None:
    fields = [_field(f"f{i}", 2 * i) for i in range(10)]
    assert _spans(plan_requests(fields, max_registers=8, max_gap=8)) == [(3, 0, 8), (3, 8, 8), (3, 16, 4)]


def test_holding_and_input_registers_are_never_in_one_request() -> None:
    fields = [_field("f0", 0), _field("f1", 2, function=4)]
    assert _spans(plan_requests(fields, max_registers=125, max_gap=8)) == [(3, 0, 2), (4, 2, 2)]


def test_a_split_total_is_read_in_one_request_even_over_a_wide_gap() -> None:
    fields = [_field("f0", 0, 40), _field("f1", 20)]
    assert _spans(plan_requests(fields, max_registers=125, max_gap=0)) == [(3, 0, 42)]


def test_the_profiles_need_as_few_requests_as_their_maps_allow() -> None:
    counts = {
        name: _spans(plan_requests(profile.fields, max_registers=profile.max_registers, max_gap=profile.max_gap))
        for name, profile in load_profiles().items()
        if profile.is_modbus
    }
    assert counts["fuxin-corrector"] == [(3, 16, 14)]
    assert counts["usw-ultrasonic"] == [(3, 0x200, 8)]
    assert counts["abb-b23"] == [(3, 0x5000, 8), (3, 0x5B00, 2), (3, 0x5B0C, 10)]
    assert counts["tuf2000-clamp-on"] == [(3, 0, 12)]


@given(st.sets(st.integers(0, 60), min_size=1, max_size=7), st.integers(2, 20), st.integers(0, 10))
def test_every_field_once_and_no_other_way_needs_fewer_requests(places: set[int], limit: int, gap: int) -> None:
    fields = [_field(f"f{i}", 2 * place) for i, place in enumerate(sorted(places))]
    requests = plan_requests(fields, max_registers=limit, max_gap=gap)
    assert [f.name for r in requests for f in r.fields] == [f.name for f in fields]
    assert all(r.count <= limit for r in requests)

    def allowed(group: list[MeterField]) -> bool:
        gaps = [b.start - a.stop for a, b in itertools.pairwise(group)]
        return group[-1].stop - group[0].start <= limit and all(g <= gap for g in gaps)

    fewest = len(fields)
    for cuts in itertools.product([False, True], repeat=len(fields) - 1):
        borders = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(fields)]
        groups = [fields[a:b] for a, b in itertools.pairwise(borders)]
        if all(allowed(group) for group in groups):
            fewest = min(fewest, len(groups))
    assert len(requests) == fewest


def test_a_refused_block_is_parted_at_its_widest_gap_until_single_fields_remain() -> None:
    (block,) = plan_requests([_field("f0", 0), _field("f1", 2), _field("f2", 9), _field("f3", 11)],
                             max_registers=125, max_gap=8)  # fmt: skip
    low, high = split(block)
    assert _spans((low, high)) == [(3, 0, 4), (3, 9, 4)]
    assert [_spans((part,)) for part in split(low)] == [[(3, 0, 2)], [(3, 2, 2)]]
    assert split(split(low)[0]) == (split(low)[0],)


def test_an_answer_becomes_values_flags_bad_and_absent_fields() -> None:
    bcd = MeterField("b", "volume", 3, (Part(0, number("bcd", size=2)),), 0, ())
    away = MeterField("a", "flow", 3, (Part(1, Number("uint16", 2, absent=frozenset({b"\xff\xff"}))),), 0, ())
    celsius = MeterField("t", "temperature", 3, (Part(2, number("uint16", scale="0.1")),), -273_150_000, ())
    state = MeterField("s", None, 3, (Part(3, Number("uint16", 2, micro=Decimal(1))),), 0,
                       (FlagBit(Flag.COVER, 2, 2),))  # fmt: skip
    (request,) = plan_requests([bcd, away, celsius, state], max_registers=125, max_gap=0)
    decode = compile_request(request)
    good, sick = Found({}), Found({})
    decode(bytes.fromhex("1234 0005 0B72 0002"), good)
    assert good.values == {"volume": 1234_000_000, "flow": 5_000_000, "temperature": 19_850_000}
    assert (good.flags, good.bad, good.absent) == (Flag.COVER, None, None)
    decode(bytes.fromhex("12A4 FFFF 0B72 0001"), sick)
    assert sick.values == {"temperature": 19_850_000}
    assert (sick.flags, sick.bad, sick.absent) == (0, {"b": "bcd"}, ["a"])


def test_an_answer_that_is_too_short_gives_no_value() -> None:
    (request,) = plan_requests([_field("f0", 0), _field("f1", 2)], max_registers=125, max_gap=0)
    found = Found({})
    for short in (b"", b"\x00\x01\x00", bytes(6), bytes(10)):
        with pytest.raises(FrameError):
            compile_request(request)(short, found)
    assert found == Found({}), "a number cut short is no number"
