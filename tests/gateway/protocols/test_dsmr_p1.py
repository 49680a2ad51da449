"""DSMR P1: golden telegrams, derived ones with a new CRC, refusals, streams."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from gateway.protocols import dsmr_p1
from gateway.protocols.dsmr_p1 import Line, Telegram
from gateway.protocols.framing import Cut, crc16_arc, split
from gateway.protocols.golden import judge
from metering.errors import ChecksumError, FrameError
from tests.gateway.protocols import wire_checks

GOLDEN = wire_checks.valid_frames("dsmr-p1")
CHECKED = [frame for frame in GOLDEN if dsmr_p1.decode(frame).crc]
PLAIN = [frame for frame in GOLDEN if not dsmr_p1.decode(frame).crc]
CODEC = wire_checks.Codec(decode=dsmr_p1.decode, encode=dsmr_p1.encode, splitter=dsmr_p1.splitter)
UNCHECKED = wire_checks.Codec(decode=dsmr_p1.decode, checked=False)


def _telegram(lines: str, *, crc: bool = True) -> bytes:
    body = ("/XYZ5meter\r\n\r\n" + "".join(f"{line}\r\n" for line in lines.split()) + "!").encode()
    return body + (f"{crc16_arc(body):04X}\r\n".encode() if crc else b"\r\n")


def random_telegram(chance: random.Random) -> Telegram:
    """Return a telegram of version 5 with any index, time and sub-meters."""
    stamp = f"{chance.randrange(10, 60):02d}{chance.randrange(1, 13):02d}{chance.randrange(1, 29):02d}"
    stamp += f"{chance.randrange(24):02d}{chance.randrange(60):02d}{chance.randrange(60):02d}{chance.choice('SW')}"
    lines = [Line("1-3:0.2.8", ("50",)), Line("0-0:1.0.0", (stamp,))]
    lines += [Line("0-0:96.1.1", (chance.randbytes(chance.randrange(0, 12)).hex().upper(),))]
    for code in ("1.8.1", "1.8.2", "2.8.1", "2.8.2"):
        lines.append(Line(f"1-0:{code}", (f"{chance.randrange(10**9) / 1000:010.3f}*kWh",)))
    lines.append(Line("1-0:1.7.0", (f"{chance.randrange(10**5) / 1000:06.3f}*kW",)))
    for channel in range(1, chance.randrange(1, 5)):
        value = f"{chance.randrange(10**8) / 1000:09.3f}*m3"
        lines.append(Line(f"0-{channel}:24.1.0", (f"{chance.choice((3, 4, 7)):03d}",)))
        lines.append(Line(f"0-{channel}:24.2.1", (stamp, value)))
    return Telegram("KFM5" + chance.choice(("KAIFA", "2M", "\\2MT382-1000")), "0000", tuple(lines))


def _derived(count: int) -> list[bytes]:
    chance = random.Random(4)
    return [dsmr_p1.encode(random_telegram(chance)) for _ in range(count)]


def test_every_golden_telegram_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("dsmr-p1") == 5


def test_derived_telegrams_come_back_byte_for_byte_with_their_values() -> None:
    chance = random.Random(9)
    for _ in range(250):
        telegram = random_telegram(chance)
        frame = dsmr_p1.encode(telegram)
        again = dsmr_p1.decode(frame)
        assert again.lines == telegram.lines
        assert dsmr_p1.encode(again) == frame
        index = next(line for line in telegram.lines if line.obis == "1-0:1.8.1").groups[0]
        micro = int(index.removesuffix("*kWh").replace(".", "")) * 1000
        assert dsmr_p1.house_values(again)["energy_import_t1"] == micro
    assert wire_checks.assert_round_trip(CODEC, CHECKED) == 3


def test_cut_telegrams_are_refused() -> None:
    wire_checks.assert_prefixes_refused(CODEC, GOLDEN + _derived(3))


def test_no_single_flipped_bit_changes_a_value() -> None:
    wire_checks.assert_bit_flips_harmless(CODEC, [*CHECKED, *_derived(3)])
    wire_checks.assert_bit_flips_harmless(UNCHECKED, PLAIN)


def test_random_bytes_do_no_harm() -> None:
    wire_checks.assert_random_bytes_harmless(CODEC, GOLDEN + _derived(10))


def test_both_telegrams_come_out_of_a_noisy_line() -> None:
    noise = [b"1-0:1.8.1(000004.426*kWh)\r\n!6EEE\r\n", b"/", b"/ISk5\\2MT382\r\n\r\n1-0:1.8.1(0000"]
    wire_checks.assert_stream_survives(CODEC, [*GOLDEN[:2], *_derived(1)], noise=noise)


def test_endless_stream_without_an_end_keeps_little_memory() -> None:
    splitter = dsmr_p1.splitter()
    for _ in range(40):
        splitter.feed(b"/" + b"x" * 1000)
        assert splitter.waiting <= dsmr_p1.MAX_FRAME + 1001


def test_recording_of_two_telegrams_and_noise_is_split() -> None:
    found = split(dsmr_p1.splitter(), b"noise" + GOLDEN[0] + GOLDEN[2])
    assert [item.raw for item in found if isinstance(item, Cut)] == [GOLDEN[0], GOLDEN[2]]


def test_wrong_crc_and_missing_crc_are_refused_as_crc() -> None:
    wrong = GOLDEN[0].replace(b"!6EEE", b"!6EEF")
    with pytest.raises(ChecksumError) as caught:
        dsmr_p1.decode(wrong)
    assert (caught.value.sort, caught.value.facts) == ("crc", {"crc_in_frame": "6EEF", "crc_computed": "6EEE"})
    with pytest.raises(ChecksumError, match="has no CRC"):
        dsmr_p1.decode(GOLDEN[0].replace(b"!6EEE", b"!"))
    entry = {"id": "x", "protocol": "dsmr-p1", "hex": wrong.hex(), "expect": {"valid": False, "error": "crc"}}
    assert judge(entry) == []


def test_crc_with_dropped_leading_zeros_is_right() -> None:
    for number in range(5000):
        frame = _telegram(f"1-3:0.2.8(50) 1-0:1.8.1({number:06d}.000*kWh)")
        crc = frame[-6:-2]
        if crc.startswith(b"0"):
            short = frame[:-6] + crc.lstrip(b"0") + b"\r\n"
            assert dsmr_p1.decode(short).lines == dsmr_p1.decode(frame).lines
            assert dsmr_p1.encode(dsmr_p1.decode(short)) == short
            return
    raise AssertionError("no telegram with such a CRC was made")


def test_times_carry_their_offset_or_are_local() -> None:
    def moment(text: str) -> datetime | None:
        time = dsmr_p1.time_of(text)
        return None if time is None else time.moment

    assert moment("170702192002S") == datetime(2017, 7, 2, 19, 20, 2, tzinfo=timezone(timedelta(hours=2)))
    assert moment("170102192002W") == datetime(2017, 1, 2, 19, 20, 2, tzinfo=timezone(timedelta(hours=1)))
    assert moment("161107190000") == datetime(2016, 11, 7, 19)  # noqa: DTZ001 the meter's local time
    for none in (
        "700101010000W",
        "632525252525S",
        "170230192002W",
        "170102252002W",
        "",
        "1701021920",
        "17010219200xS",
    ):
        assert moment(none) is None, none


@pytest.mark.parametrize(
    "line",
    [
        "0-1:24.2.1(632525252525S)(00000.000)",
        "0-1:24.2.1(700101010000W)(00000.000*m3)",
        "0-1:24.2.1(170102161005W)(00000.107)",
        "0-1:24.2.1()",
        "0-1:24.3.0(161107190000)(00)(60)(1)(0-1:24.2.1)(m3)",
    ],
)
def test_channel_without_a_true_value_gives_no_reading(line: str) -> None:
    (meter,) = dsmr_p1.decode(_telegram(f"1-3:0.2.8(50) 0-1:24.1.0(003) {line}")).sub_meters
    assert (meter.type, meter.value, meter.time) == (3, None, None)
    assert dsmr_p1.sub_meter_values(meter) == {}


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        ("0-1:24.1.0(003) 0-1:24.2.1(170102161005W)(00000.107*m3)", {"volume_standard": 107_000}),
        ("0-2:24.1.0(003) 0-2:24.2.3(170102161005W)(00112.384*m3)", {"volume_actual": 112_384_000}),
        ("0-3:24.1.0(007) 0-3:24.2.1(170102161005W)(00872.234*m3)", {"volume": 872_234_000}),
        ("0-4:24.1.0(004) 0-4:24.2.1(170102161005W)(00012.340*kWh)", {"energy_import": 12_340_000}),
        ("0-4:24.1.0(004) 0-4:24.2.1(170102161005W)(00000.036*GJ)", {"energy_import": 10_000_000}),
    ],
)
def test_sub_meters_keep_their_medium_and_their_conditions(lines: str, values: dict[str, int]) -> None:
    (meter,) = dsmr_p1.decode(_telegram(f"1-3:0.2.8(50) {lines}")).sub_meters
    assert dsmr_p1.sub_meter_values(meter) == values


def test_watt_hours_become_kilowatt_hours_and_export_is_taken_from_power() -> None:
    text = "1-3:0.2.8(50) 1-0:1.8.0(00012345*Wh) 1-0:2.8.1(001.5*kWh) 1-0:2.8.2(002*kWh)"
    text += " 1-0:1.7.0(0*W) 1-0:2.7.0(1200*W)"
    telegram = dsmr_p1.decode(_telegram(text))
    assert dsmr_p1.house_values(telegram) == {
        "energy_import": 12_345_000,
        "energy_export": 3_500_000,
        "power": -1_200_000,
    }
    assert telegram.value("1-0:1.8.0") == dsmr_p1.Value(Decimal(12345), "Wh")


def test_unknown_line_is_kept_when_the_crc_proves_it_and_damage_when_nothing_does() -> None:
    frame = _telegram("1-3:0.2.8(50) strange 1-0:1.8.0(1*kWh)")
    assert dsmr_p1.house_values(dsmr_p1.decode(frame)) == {"energy_import": 1_000_000}
    assert dsmr_p1.encode(dsmr_p1.decode(frame)) == frame
    with pytest.raises(FrameError, match="strange"):
        dsmr_p1.decode(_telegram("1-0:1.8.0(1*kWh) strange", crc=False))


def test_equipment_id_is_printed_when_it_is_coded_text() -> None:
    assert dsmr_p1.printed("4B384547303034303436333935353037") == "K8EG004046395507"
    assert dsmr_p1.printed("3960221976967177082151037881335713") == "3960221976967177082151037881335713"


_ODD: dict[str, Callable[[bytes], bytes]] = {
    "bytes behind": lambda frame: frame + b"x",
    "not ASCII": lambda frame: frame.replace(b"KAIFA", b"KAIF\xc4"),
    "no slash": lambda frame: frame[1:],
    "empty": lambda frame: b"",
}


@pytest.mark.parametrize("what", _ODD)
def test_odd_frames_are_refused(what: str) -> None:
    with pytest.raises((FrameError, ChecksumError)):
        dsmr_p1.decode(_ODD[what](GOLDEN[1]))
