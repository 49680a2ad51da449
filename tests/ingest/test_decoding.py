"""Decoding of `up` messages: everything that must be refused is refused, and only the row it stands in."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from ingest.decoding import MAX_PAYLOAD, BadRow, BrokenMessageError, decode
from metering.messages import Up, encode
from metering.reading import Event, Reading, Row

AT = 1_772_323_200_000  # 2026-03-01T00:00:00Z
GOOD = '{"type":"reading","meter":"WM-1","read_at":1772323200000,"values":{"volume":12345678}}'


def message(*rows: str, **header: Any) -> bytes:
    """A message as text, so that rows can be as wrong as they like."""
    fields = {"v": 1, "gateway": "gw-1", "epoch": "00ff00ff", "seq": 7, "oldest": 1, "produced": 9, "sent_at": AT}
    head = json.dumps(fields | header)
    return (head[:-1] + ', "rows": [' + ", ".join(rows) + "]}").encode("utf-8", "surrogateescape")


def only_bad(payload: bytes) -> BadRow:
    """Decode good, bad, good; return the bad row after seeing that its neighbours live."""
    decoded = decode(payload)
    first, bad, last = decoded.rows
    assert decoded.up.seq == 7
    assert isinstance(first, Reading)
    assert isinstance(last, Reading)
    assert first.values == last.values == {"volume": 12_345_678}
    assert isinstance(bad, BadRow)
    return bad


def test_what_a_gateway_sends_takes_the_quick_way_and_comes_out_unchanged() -> None:
    rows: list[Row] = [
        Reading("WM-1", AT, {"volume": 12_345_678, "flow": 0}, meter_time=AT - 5, flags=3),
        Event("read_failed", AT, meter="WM-2", cause="timeout", count=3),
        Reading('表 "1"\n\\=,', AT, {"volume": -(2**63) + 1}, quality="suspect", reason="clock"),
    ]
    decoded = decode(encode(Up(1, "gw-1", "00ff00ff", 7, 1, 9, AT, rows, [(2, 3)])))
    assert decoded.canonical
    assert decoded.rows == rows
    assert (decoded.up.seq, decoded.up.gone) == (7, [(2, 3)])


def test_another_spelling_of_the_same_json_is_read_the_slow_way() -> None:
    decoded = decode(message(GOOD, GOOD.replace("WM-1", "\\u8868")))
    assert not decoded.canonical
    assert [row.meter for row in decoded.rows if isinstance(row, Reading)] == ["WM-1", "表"]


def test_message_without_rows_is_a_message() -> None:
    assert decode(message()).rows == []
    assert decode(message().replace(b"[]", b"[ \n ]")).rows == []


def reading(values: str) -> str:
    return '{"type":"reading","meter":"WM-1","read_at":1772323200000,"values":' + values + "}"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (reading('{"volume":NaN}'), "not_finite"),
        (reading('{"volume":Infinity}'), "not_finite"),
        (reading('{"volume":-Infinity}'), "not_finite"),
        (reading('{"volume":1e999}'), "fraction"),
        (reading('{"volume":1.0}'), "fraction"),
        (reading('{"volume":1e3}'), "fraction"),
        (reading('{"volume":"12"}'), "schema"),
        (reading('{"volume":null}'), "schema"),
        (reading('{"volume":true}'), "schema"),
        (reading('{"volume":1,"volume":2}'), "duplicate_key"),
        (reading('{"volume":1,"volume":1}'), "duplicate_key"),
        (reading('{"volume":' + "9" * 30 + "}"), "huge_number"),
        (reading('{"volume":' + "9" * 5000 + "}"), "huge_number"),
        (reading('{"volume":9223372036854775808}'), "schema"),
        (reading('{"volumen":1}'), "schema"),
        (reading('{"volume; DROP MEASUREMENT reading":1}'), "schema"),
        (reading("{}").replace("}}", '},"colour":"red"}'), "schema"),
        (reading("[]"), "schema"),
        (GOOD.replace('"WM-1"', '"WM-1","meter":"WM-2"'), "duplicate_key"),
        (GOOD.replace("WM-1", ""), "schema"),
        (GOOD.replace("WM-1", "x" * 65), "schema"),
        (GOOD.replace("WM-1", "a\\u0000b"), "nul"),
        (GOOD.replace("WM-1", "a\0b"), "nul"),
        (GOOD.replace("WM-1", "a\nb"), "schema"),
        (GOOD.replace("WM-1", "a\\ud800"), "surrogate"),
        (GOOD.replace("WM-1", "a\\udc80"), "utf8"),
        (GOOD.replace("WM-1", "a\udcff"), "utf8"),  # the byte FF
        (GOOD.replace("1772323200000", "-1"), "schema"),
        (GOOD.replace("1772323200000", "1772323200000000"), "schema"),
        (GOOD.replace("reading", "riddle"), "schema"),
        ("null", "schema"),
        ("[[1]]", "schema"),
        ('"WM-1"', "schema"),
    ],
)
def test_a_bad_row_is_kept_raw_and_its_neighbours_go_on(row: str, reason: str) -> None:
    bad = only_bad(message(GOOD, row, GOOD))
    assert bad.reason == reason
    assert bad.raw == row.encode("utf-8", "surrogateescape")
    assert bad.detail


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "syntax"),
        (b"null", "syntax"),
        (b"[1, 2]", "syntax"),
        (b"\x00\xff\xfe", "syntax"),
        (message(GOOD)[:-1], "syntax"),
        (message(GOOD) + b"x", "syntax"),
        (message("nan"), "syntax"),
        (message("{1:2}"), "syntax"),
        (message(GOOD, seq=0), "schema"),
        (message(GOOD, seq="7"), "schema"),
        (message(GOOD, seq=None), "schema"),
        (message(GOOD, seq=2**63), "schema"),
        (message(GOOD, seq=2**62), "schema"),
        (encode(Up(1, "gw-1", "00ff00ff", 2**62, 1, 9, AT, [Reading("WM-1", AT, {"volume": 1})])), "schema"),
        (message(GOOD, gateway="a/b"), "schema"),
        (message(GOOD, gateway=""), "schema"),
        (message(GOOD, gateway="#"), "schema"),
        (message(GOOD, gateway="\udcff"), "utf8"),
        (message(GOOD, epoch="XYZ"), "schema"),
        (message(GOOD, colour="red"), "schema"),
        (message(GOOD, v=2), "version"),
        (message(GOOD, sent_at=1.5), "fraction"),
        (message(GOOD).replace(b'"v": 1', b'"v": 1, "v": 1'), "duplicate_key"),
        (message(GOOD).replace(b'"rows"', b'"rows": [], "rows"'), "duplicate_key"),
        (message(GOOD).replace(b'"rows"', b'"rose"'), "schema"),
        (message(*["{}"] * 501), "rows"),
        (b"[" * 100_000, "depth"),
        (b'{"a":' * 20_000, "depth"),
        (message("[" * 50_000 + "]" * 50_000), "depth"),
        (b" " * (MAX_PAYLOAD + 1), "size"),
    ],
)
def test_a_message_without_a_number_to_trust_is_refused_whole(payload: bytes, reason: str) -> None:
    with pytest.raises(BrokenMessageError) as refusal:
        decode(payload)
    assert refusal.value.reason == reason


def test_brackets_inside_texts_do_not_count_as_depth() -> None:
    row = GOOD.replace("WM-1", '[[[[{{{{[[[[\\"')
    decoded = decode(message(row))
    assert isinstance(decoded.rows[0], Reading)


def test_every_prefix_and_every_flipped_bit_gives_rows_or_a_refusal() -> None:
    payload = encode(Up(1, "gw-1", "00ff00ff", 7, 1, 9, AT, [Reading("WM-1", AT, {"volume": 12_345_678})]))
    for size in range(len(payload)):
        with pytest.raises(BrokenMessageError):
            decode(payload[:size])
    for bit in range(len(payload) * 8):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decode(bytes(damaged))
        except BrokenMessageError:
            continue


def test_random_bytes_never_raise_anything_else() -> None:
    chance = random.Random(1)
    alphabet = b'{}[]",:0123456789eE.-\\u"nulltrue \xff\x00' + b'"rows":[' + b'"values":{'
    for _ in range(3000):
        soup = bytes(chance.choice(alphabet) for _ in range(chance.randrange(60)))
        for payload in (soup, message(GOOD, soup.decode("utf-8", "surrogateescape"))):
            try:
                decode(payload)
            except BrokenMessageError:
                continue


def test_the_longest_hostile_texts_are_answered_quickly() -> None:
    """Patterns that make a careless tokenizer or number parser quadratic; here the whole test takes 0.03 s."""
    for soup in (b'\\"' * 65_000, b'"' * 130_000, b"9" * 130_000, b'{"a":"' + b"\\" * 130_000, b'["' * 65_000):
        with pytest.raises(BrokenMessageError):
            decode(soup)
