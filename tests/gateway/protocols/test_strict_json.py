"""JSON that is refused where other parsers guess."""

from __future__ import annotations

import random
import tracemalloc
from decimal import Decimal

import pytest

from gateway.protocols import strict_json
from metering.errors import FrameError


def test_numbers_are_exact() -> None:
    found = strict_json.loads(b"[0.1, 12345678.123456, 1e-3, 1.0, 7, -18446744073709551615]")
    assert found == [Decimal("0.1"), Decimal("12345678.123456"), Decimal("0.001"), Decimal("1.0"), 7, -(2**64 - 1)]
    assert [type(item) for item in found[:4]] == [Decimal] * 4
    assert str(strict_json.loads(b"[0.30000000000000004]")[0]) == "0.30000000000000004"


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (b"", "syntax"),
        (b"{", "syntax"),
        (b'{"a":1}x', "syntax"),
        (b"{'a':1}", "syntax"),
        (b'{"a":01}', "syntax"),
        (b'{"a":NaN}', "number"),
        (b'{"a":Infinity}', "number"),
        (b'{"a":-Infinity}', "number"),
        (b'{"a":1e999}', "number"),
        (b'{"a":1e-999}', "number"),
        (b'{"a":1e31}', "number"),
        (b'{"a":' + b"1" * 30 + b"}", "number"),
        (b'{"a":0.' + b"1" * 60 + b"}", "number"),
        (b'{"a":' + b"9" * 5000 + b"}", "number"),
        (b'{"a":1,"a":2}', "duplicate"),
        (b'{"x":[{"a":1,"b":2,"a":1}]}', "duplicate"),
        (b'{"a":"\\u0000"}', "text"),
        (b'{"a":["\\ud800"]}', "text"),
        (b'{"\\udfff":1}', "text"),
        (b'"\\ud800"', "text"),
        (b'{"a":"\xff"}', "encoding"),
        (b'\xef\xbb\xbf{"a":1}', "syntax"),
        ('{"a":1}'.encode("utf-16"), "encoding"),
        (b"[" * 33 + b"]" * 33, "depth"),
        (b"[" * 100_000, "depth"),
        (b'{"a":' * 40_000, "depth"),
        (b" " * (strict_json.MAX_BYTES + 1), "length"),
    ],
)
def test_each_kind_of_bad_json_is_refused_by_name(payload: bytes, word: str) -> None:
    with pytest.raises(FrameError) as caught:
        strict_json.loads(payload)
    assert caught.value.sort == "json"
    assert word in caught.value.also
    assert len(caught.value.frame) <= 64


def test_brackets_inside_texts_are_not_nesting() -> None:
    text = "[{" * 50 + '\\"' + "\\\\"
    assert strict_json.loads(f'{{"a":"{text}","b":[[1]]}}'.encode())["b"] == [[1]]
    assert strict_json.loads(b"[" * 32 + b"]" * 32)


def test_surrogate_pair_is_one_letter() -> None:
    assert strict_json.loads(b'"\\ud83d\\ude00"') == "😀"


def test_random_bytes_are_answered_or_refused() -> None:
    chance = random.Random(1)
    sample = b'{"a":[1,2.5,{"b":"x","c":null}],"d":true,"e":-1.5e3}'
    refused = 0
    for _ in range(20_000):
        data = bytearray(sample)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b'{}[]",:0123456789eE+-.\\ tfn\xc3\x00')
        try:
            strict_json.loads(bytes(data))
        except FrameError as error:
            refused += error.sort == "json"
    assert 10_000 < refused < 20_000


def test_bomb_of_a_megabyte_costs_no_memory() -> None:
    bomb = b'{"a":' * 200_000
    tracemalloc.start()
    with pytest.raises(FrameError):
        strict_json.loads(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
