"""Made M-Bus telegrams: any address, function, storage, tariff, coding and VIF, with exact values."""

from __future__ import annotations

import random
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from gateway.protocols import mbus
from gateway.protocols.mbus.vif import meaning

_SCALED_VIFS = (
    "04 06 0B 13 14 16 1B 22 26 2B 32 3B 3E 43 4C 53 5A 5E 61 66 69 72 76 6E 78 7A FB01 FB11 FB21 FD0E FD17 FD1A "
    "FD3A FD48 FD59 FD74 933A 933E 933B 933C 9370 9376 957D 8470 BE28 943E"
)
_DIGITS = {0x9: 2, 0xA: 4, 0xB: 6, 0xC: 8, 0xE: 12}
_BITS = {1: 8, 2: 16, 3: 24, 4: 32, 6: 48, 7: 64}


def random_record(chance: random.Random) -> mbus.Record:
    """Return a record whose value fits its coding exactly."""
    place: dict[str, Any] = {
        "function": chance.choice(("instantaneous", "maximum", "minimum", "error")),
        "storage": chance.choice((0, 0, 0, 1, 2, 5, 17, 300, 70_000)),
        "tariff": chance.choice((0, 0, 1, 2, 3, 9)),
        "subunit": chance.choice((0, 0, 1, 2)),
    }
    match chance.randrange(8):
        case 0:
            day = date(chance.randrange(1990, 2080), chance.randrange(1, 13), chance.randrange(1, 29))
            return mbus.record(b"\x6c", day, coding=2, **place)
        case 1:
            return mbus.record(b"\x6d", random_moment(chance), coding=chance.choice((4, 6)), **place)
        case 2:
            text = "".join(chance.choice("ABC xyz-0129é") for _ in range(chance.randrange(1, 12)))
            return mbus.record(b"\xfd\x11", text, coding=0xD, **place)
        case 3:
            return mbus.record(b"\x7c", chance.randrange(100), coding=2, text="bat. time", **place)
        case 4:
            real = Decimal(chance.randrange(1, 10_000)) / 100
            return mbus.record(b"\x2e", real * 1000, coding=5, **place)
        case _:
            return _number(chance, place)


def random_moment(chance: random.Random) -> datetime:
    """Return a whole minute of 2000 to 2079."""
    year, month, day = chance.randrange(2000, 2080), chance.randrange(1, 13), chance.randrange(1, 29)
    return datetime(year, month, day, chance.randrange(24), chance.randrange(60))  # noqa: DTZ001 a meter's local time


def _number(chance: random.Random, place: dict[str, Any]) -> mbus.Record:
    vib = bytes.fromhex(chance.choice(_SCALED_VIFS.split()))
    said = meaning(vib)
    coding = chance.choice((1, 2, 3, 4, 6, 7, 9, 0xA, 0xB, 0xC, 0xE))
    if coding in _DIGITS:
        raw = chance.randrange(-(10 ** (_DIGITS[coding] - 1)) + 1, 10 ** _DIGITS[coding])
    else:
        raw = chance.getrandbits(_BITS[coding]) - (0 if said.kind == "flags" else 1 << (_BITS[coding] - 1))
    if raw < 0 and said.kind == "flags":
        raw = -raw
    return mbus.record(vib, raw * said.scale, coding=coding, **place)


def random_header(chance: random.Random) -> mbus.Header:
    """Return the header of some meter, with nothing in its configuration word."""
    maker = "".join(chance.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(3))
    id = f"{chance.randrange(10**8):08d}"
    return mbus.Header(
        id, maker, chance.randrange(256), chance.choice((2, 3, 4, 6, 7, 0x16)), chance.randrange(256), 0, 0
    )


def random_telegram(chance: random.Random) -> mbus.Telegram:
    """Return an answer of 1 to 8 records."""
    records = [random_record(chance) for _ in range(chance.randrange(1, 9))]
    more = chance.random() < 0.2
    return mbus.response(chance.randrange(251), random_header(chance), records, more_follow=more)
