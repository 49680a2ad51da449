"""One item behind a DL/T 645 identifier: raw bytes and their form, exact, and back."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from decimal import Decimal

from gateway.protocols import framing
from gateway.protocols.dlt645.identifiers import Form
from metering.errors import FrameError

Value = Decimal | str | None


@dataclass(frozen=True, slots=True)
class Item:
    """The bytes of one item as they came (low byte first, sign bit included) and how to read them."""

    raw: bytes
    form: Form

    @property
    def number(self) -> int | None:
        """The signed number in its last decimal; None when it is FF throughout: not available.

        Raises: FrameError, sort "bcd", for any other nibble above 9.
        """
        digits = self.raw[:3] if self.form.kind == "demand" else self.raw
        if digits == b"\xff" * len(digits):
            return None
        if self.form.signed and digits[-1] & 0x80:
            return -framing.bcd_le(digits[:-1] + bytes((digits[-1] & 0x7F,)))
        return framing.bcd_le(digits)

    @property
    def value(self) -> Value:
        """A Decimal in `form.unit`; text for dates, times, status words (hex) and digits; None: not available."""
        match self.form.kind:
            case "number" | "demand":
                number = self.number
                return None if number is None else Decimal(number).scaleb(-self.form.decimals)
            case "status" | "digits":
                return self.raw[::-1].hex().upper()
            case "date":
                return date_text(self.raw[:0:-1])
            case "clock":
                return clock_text(self.raw[::-1])
            case "minute":
                return minute_text(self.raw)
            case "stamp":
                date, clock = date_text(self.raw[:3:-1]), clock_text(self.raw[2::-1])
                return f"{date}T{clock}" if date and clock else None

    @property
    def at(self) -> str | None:
        """When a demand happened, "2026-01-31T23:59"."""
        return minute_text(self.raw[3:]) if self.form.kind == "demand" else None

    @property
    def micro(self) -> int | None:
        """The number in 10⁻⁶ of the form's unit. Raises: FrameError, sort "bcd"."""
        number = self.number
        return None if number is None else int(number * 10 ** (6 - self.form.decimals))

    @classmethod
    def of(cls, number: int, form: Form) -> Item:
        """Return the item for a number in its last decimal. Raises: FrameError, when it does not fit."""
        raw = framing.to_bcd_le(abs(number), form.size)
        if form.signed:
            if raw[-1] & 0x80:
                raise FrameError(f"{number} does not fit beside its sign into {form.size} BCD bytes", sort="bcd")
            raw = raw[:-1] + bytes((raw[-1] | (0x80 if number < 0 else 0),))
        elif number < 0:
            raise FrameError(f"{number}: this value has no sign", sort="bcd")
        return cls(raw, form)


def stamp_text(raw: bytes) -> str | None:
    """Read ss mm hh DD MM YY as "2017-06-05T10:22:51"; None for an impossible time."""
    date, clock = date_text(raw[:2:-1]), clock_text(raw[2::-1])
    return f"{date}T{clock}" if date and clock else None


def stamp_bytes(text: str) -> bytes:
    """Return "2017-06-05T10:22:51" as ss mm hh DD MM YY. Raises: FrameError, sort "date", for an impossible time."""
    digits = "".join(text[i : i + 2] for i in (17, 14, 11, 8, 5, 2))
    raw = bytes.fromhex(digits) if len(text) == 19 and digits.isascii() and digits.isdigit() else b""
    if len(raw) != 6 or stamp_text(raw) != text:
        raise FrameError(f"{text!r} is no time of the form 2017-06-05T10:22:51 from 2000 to 2099", sort="date")
    return raw


def minute_text(raw: bytes) -> str | None:
    """Read mm hh DD MM YY as "2026-01-31T23:59"; None for an impossible time."""
    date, clock = date_text(raw[:1:-1]), clock_text(raw[1::-1])
    return f"{date}T{clock}" if date and clock else None


def date_text(raw: bytes) -> str | None:
    """Read YY MM DD (what follows is left out) as "2026-01-31"; None for an impossible date. The century is 20."""
    year, month, day = (framing.bcd_le_or_none(raw[i : i + 1]) for i in range(3))
    if year is None or month is None or day is None or not 1 <= month <= 12:
        return None
    if not 1 <= day <= calendar.monthrange(2000 + year, month)[1]:
        return None
    return f"{2000 + year}-{month:02d}-{day:02d}"


def clock_text(raw: bytes) -> str | None:
    """Read hh mm [ss] as "23:59:58" or "23:59"; None for an impossible time."""
    parts = [framing.bcd_le_or_none(raw[i : i + 1]) for i in range(len(raw))]
    if any(part is None or part >= limit for part, limit in zip(parts, (24, 60, 60), strict=False)):
        return None
    return ":".join(f"{part:02d}" for part in parts)
