"""The LoRaWAN payload of UGM gas meters."""

from __future__ import annotations

import random

import pytest

from gateway.protocols import lorawan_ugm
from gateway.protocols.lorawan_ugm import Measurement, Uplink
from metering.errors import FrameError
from tests.gateway.protocols import wire_checks

GOLDEN = wire_checks.valid_frames("lorawan-ugm")
CODEC = wire_checks.Codec(decode=lambda raw: lorawan_ugm.decode(raw, 10), encode=lorawan_ugm.encode, checked=False)


def random_uplink(chance: random.Random) -> Uplink:
    """Return a message of up to 5 rows."""
    time_s = chance.randrange(2**32)
    rows = tuple(
        Measurement(
            chance.randrange(256),
            max(0, time_s - 3600 * n),
            chance.randrange(2**32) * 1000,
            chance.randrange(2**16) * 10_000,
            chance.randrange(256) * 1_000_000,
            chance.randrange(2**16) * 10_000,
            chance.randrange(3),
        )
        for n in range(chance.randrange(6))
    )
    return Uplink(time_s, rows)


def test_golden_message_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("lorawan-ugm") == 1


def test_derived_messages_come_back_byte_for_byte() -> None:
    chance = random.Random(1)
    for _ in range(300):
        uplink = random_uplink(chance)
        assert lorawan_ugm.decode(lorawan_ugm.encode(uplink), 30) == uplink
        wire_checks.assert_round_trip(CODEC, [lorawan_ugm.encode(uplink)])


def test_cut_messages_are_refused_and_damage_is_answered_or_refused() -> None:
    for end in range(len(GOLDEN[0])):
        if end != 6:  # the header alone is a message without rows
            with pytest.raises(FrameError):
                lorawan_ugm.decode(GOLDEN[0][:end], 10)
    wire_checks.assert_bit_flips_harmless(CODEC, GOLDEN)
    wire_checks.assert_random_bytes_harmless(CODEC, GOLDEN)


def test_other_ports_carry_no_measurements() -> None:
    for port in (0, lorawan_ugm.STATUS_PORT, 9, 31, lorawan_ugm.INFO_PORT):
        with pytest.raises(FrameError) as caught:
            lorawan_ugm.decode(GOLDEN[0], port)
        assert caught.value.sort == "unsupported"


def test_house_values_are_exact_and_an_unknown_valve_is_a_fault() -> None:
    (row,) = lorawan_ugm.decode(GOLDEN[0], 10).measurements
    assert row.house_values() == {
        "volume": 1_234_567_000,
        "flow": 350_000,
        "pressure": 103_000_000,
        "temperature": 15_250_000,
        "valve": 0,
    }
    closed = lorawan_ugm.decode(GOLDEN[0][:-1] + b"\x01", 10).measurements[0]
    assert closed.house_values()["valve"] == 1_000_000
    odd = lorawan_ugm.decode(GOLDEN[0][:-1] + b"\x07", 10).measurements[0]
    assert (odd.valve, odd.house_values()["valve"]) == (7, 2_000_000)


def test_values_finer_or_larger_than_the_layout_are_refused_when_sent() -> None:
    for volume in (1, 2**32 * 1000, -1000):
        with pytest.raises(ValueError, match="layout"):
            lorawan_ugm.encode(Uplink(0, (Measurement(1, 0, volume, 0, 0, 0, 0),)))
