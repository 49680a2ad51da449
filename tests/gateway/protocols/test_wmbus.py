"""Wireless M-Bus: golden telegrams, frame formats A and B, encryption, refusals, a second opinion by pymbusparser."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pymbusparser
import pytest

from gateway.protocols import mbus, wmbus
from gateway.protocols.golden import judge
from gateway.protocols.mbus.records import Records
from metering.errors import ChecksumError, FrameError, ProtocolError
from tests.gateway.protocols import wire_checks
from tests.gateway.protocols.mbus_frames import random_header, random_record

OMS_KEY = bytes.fromhex("0102030405060708090A0B0C0D0E0F11")
OMS_GAS = bytes.fromhex(
    "2e4493157856341233037a2a0020255923c95aaa26d1b2e7493b013ec4a6f6d3529b520edff0ea6defc99d6d69ebf3"
)
# wmbusmeters README, a Kamstrup multical21 behind an extended link layer, decrypted before it was logged
MULTICAL21 = bytes.fromhex("2A442D2C998734761B168D2091D37CAC21576C7802FF207100041308190000441308190000615B7F616713")
GOLDEN = wire_checks.valid_frames("wmbus")


def _key_of(number: int) -> bytes:
    return random.Random(number).randbytes(16)


def random_wireless(chance: random.Random) -> wmbus.Telegram:
    """Return a telegram with 1 to 4 records, of a meter or of an adapter that speaks for one."""
    meter = random_header(chance)
    sender = mbus.Header(meter.id, meter.manufacturer, meter.version, meter.medium_code, None, 0, 0)
    records = Records(tuple(random_record(chance) for _ in range(chance.randrange(1, 5))))
    ci = chance.choice((wmbus.CI_LONG, wmbus.CI_SHORT))
    if ci == wmbus.CI_LONG:
        other = random_header(chance)
        sender = mbus.Header(other.id, other.manufacturer, other.version, other.medium_code, None, 0, 0)
    return wmbus.Telegram(0x44, sender, ci, meter, records)


def _derived(count: int, form: wmbus.Form, key: bytes | None = None, seed: int = 3) -> list[bytes]:
    chance = random.Random(seed)
    return [wmbus.encode(random_wireless(chance), key, form=form) for _ in range(count)]


def _codec(form: wmbus.Form, key: bytes | None = None) -> wire_checks.Codec:
    return wire_checks.Codec(
        decode=lambda raw: wmbus.decode(raw, key, form=form),
        encode=lambda telegram: wmbus.encode(telegram, key, form=form),
        checked=form in ("A", "B"),
    )


def test_every_golden_telegram_says_what_its_source_says() -> None:
    assert wire_checks.assert_golden("wmbus") == 5


def test_crc_has_its_published_check_value() -> None:
    assert wmbus.crc16_en13757(b"123456789") == 0xC2B7  # CRC-16/EN-13757 of the CRC catalogue


@pytest.mark.parametrize("form", ["stripped", "A", "B"])
def test_derived_telegrams_come_back_byte_for_byte(form: wmbus.Form) -> None:
    assert wire_checks.assert_round_trip(_codec(form), _derived(250, form)) == 250
    for frame in _derived(250, form):
        assert wmbus.decode(frame) == wmbus.decode(frame, form=form), "the form is found out"


def test_encrypted_telegrams_come_back_byte_for_byte_and_keep_their_values() -> None:
    chance = random.Random(17)
    for number in range(250):
        telegram, key = random_wireless(chance), _key_of(number)
        frame = wmbus.encode(telegram, key)
        again = wmbus.decode(frame, key)
        assert again.decrypted
        assert again.records == telegram.records
        assert wmbus.encode(again, key) == frame
        with pytest.raises(FrameError) as caught:
            wmbus.decode(frame, _key_of(number + 1))
        assert caught.value.sort == "key"
        assert key.hex() not in str(caught.value)


def test_missing_wrong_and_short_keys_are_refused_and_never_shown() -> None:
    for key in (None, bytes(16), b"short"):
        with pytest.raises(FrameError) as caught:
            wmbus.decode(OMS_GAS, key)
        assert caught.value.sort == "key"
    entry: dict[str, Any] = {"id": "x", "protocol": "wmbus", "hex": OMS_GAS.hex(), "context": {"key": "00" * 16}}
    assert judge(entry | {"expect": {"valid": False, "error": "key"}}) == []


def test_other_security_modes_and_compact_frames_are_refused_by_name() -> None:
    mode7 = bytearray(OMS_GAS)
    mode7[14] = 0x27
    with pytest.raises(FrameError, match="mode 7"):
        wmbus.decode(bytes(mode7), OMS_KEY)
    compact = MULTICAL21[:10] + bytes.fromhex("79138C4491")
    with pytest.raises(FrameError, match="compact"):
        wmbus.decode(bytes([len(compact) - 1]) + compact[1:])


def test_extended_link_layer_is_checked_by_its_own_crc() -> None:
    telegram = wmbus.decode(MULTICAL21)
    assert telegram.meter.id == "76348799"
    assert [r.value for r in telegram.records if r.vib == b"\x13"] == [Decimal("6.408"), Decimal("6.408")]
    damaged = bytearray(MULTICAL21)
    damaged[30] ^= 4
    with pytest.raises(FrameError) as caught:  # could be encrypted: without a key nobody can tell
        wmbus.decode(bytes(damaged))
    assert caught.value.sort == "key"
    with pytest.raises(FrameError):
        wmbus.decode(bytes(damaged), bytes(16))


def test_link_layer_encryption_is_opened_with_the_meters_key() -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = _key_of(1)
    inside = MULTICAL21[17:]
    iv = MULTICAL21[2:10] + MULTICAL21[11:12] + MULTICAL21[13:17] + bytes(3)
    worker = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    sealed = MULTICAL21[:17] + worker.update(inside) + worker.finalize()
    telegram = wmbus.decode(sealed, key)
    assert telegram.decrypted
    assert telegram.records == wmbus.decode(MULTICAL21).records


def test_short_link_layer_without_crc_is_stepped_over() -> None:
    plain = GOLDEN[3]
    wrapped = plain[:10] + bytes.fromhex("8C2055") + plain[10:]
    wrapped = bytes([len(wrapped) - 1]) + wrapped[1:]
    assert wmbus.decode(wrapped).records == wmbus.decode(plain).records


def test_radio_adapter_speaks_for_the_meter_behind_it() -> None:
    chance = random.Random(2)
    telegram = random_wireless(chance)
    while telegram.ci != wmbus.CI_LONG:
        telegram = random_wireless(chance)
    again = wmbus.decode(wmbus.encode(telegram))
    assert (again.meter.id, again.sender.id) == (telegram.meter.id, telegram.sender.id)
    assert again.meter.id != again.sender.id


@pytest.mark.parametrize("form", ["A", "B"])
def test_damage_on_the_air_is_refused(form: wmbus.Form) -> None:
    frames = _derived(12, form) + [wmbus.add_crcs(frame, form) for frame in GOLDEN[2:]]
    wire_checks.assert_prefixes_refused(_codec(form), frames)
    wire_checks.assert_bit_flips_harmless(_codec(form), frames)
    frame = bytearray(frames[0])
    frame[3] ^= 1
    with pytest.raises(ChecksumError) as caught:
        wmbus.decode(bytes(frame), form=form)
    assert caught.value.sort == "crc"


def test_damaged_format_a_frames_are_not_taken_for_stripped_ones() -> None:
    codec = wire_checks.Codec(decode=wmbus.decode, checked=True)
    frames = _derived(25, "A")
    wire_checks.assert_prefixes_refused(codec, frames)
    wire_checks.assert_bit_flips_harmless(codec, frames)


def test_cut_and_damaged_telegrams_without_crc_are_refused_or_answered() -> None:
    for key in (None, OMS_KEY):
        codec = _codec("stripped", key)
        bank = [*GOLDEN, MULTICAL21]
        for frame in bank:
            for end in range(len(frame)):
                with pytest.raises(ProtocolError):
                    codec.decode(frame[:end])
        decodable = [frame for frame in bank if frame != OMS_GAS or key]
        wire_checks.assert_bit_flips_harmless(codec, decodable)


def test_damage_inside_encrypted_data_is_never_another_meters_value() -> None:
    for bit in range(15 * 8, 31 * 8):  # the first encrypted block carries the 2F 2F that proves the key
        flipped = bytearray(OMS_GAS)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError) as caught:
            wmbus.decode(bytes(flipped), OMS_KEY)
        assert caught.value.sort == "key"


@pytest.mark.parametrize(("form", "key"), [("auto", None), ("auto", OMS_KEY), ("A", None), ("B", None)])
def test_random_bytes_do_no_harm(form: wmbus.Form, key: bytes | None) -> None:
    bank = [*GOLDEN, MULTICAL21, *_derived(10, "A"), *_derived(10, "B")]
    wire_checks.assert_random_bytes_harmless(_codec(form, key), bank, count=wire_checks.RANDOM_INPUTS // 4)


def test_pymbusparser_decrypts_to_the_same_volumes() -> None:
    chance = random.Random(23)
    for number in range(60):
        telegram, key = random_wireless(chance), _key_of(number)
        volume = mbus.record(b"\x13", Decimal(chance.randrange(10**8)) / 1000, coding=0xC)
        telegram = wmbus.Telegram(0x44, telegram.meter, wmbus.CI_SHORT, telegram.meter, Records((volume,)))
        theirs = pymbusparser.parse(wmbus.encode(telegram, key).hex(), key=key)
        assert theirs["meter"]["identity"]["id"] == telegram.meter.id
        assert Decimal(theirs["records"][0]["value"]["value"]) == volume.value
