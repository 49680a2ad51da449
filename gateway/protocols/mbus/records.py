"""Records of the variable data structure: DIF, DIFEs, VIF, VIFEs, data; both directions.

Source: EN 13757-3 clause 6; public M-Bus documentation 4.8 chapter 6.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal, localcontext
from typing import Final

from gateway.protocols.mbus import values, vif
from gateway.protocols.mbus.values import Invalid, Value
from metering.errors import FrameError

FUNCTIONS: Final = ("instantaneous", "maximum", "minimum", "error")
"""DIF bits 5-4."""

FILLER, VENDOR_DATA, VENDOR_AND_MORE = 0x2F, 0x0F, 0x1F
MAX_EXTENSIONS: Final = 10


@dataclass(frozen=True, slots=True)
class Record:
    """One value of a meter.

    coding: DIF bits 3-0. function: see `FUNCTIONS`. storage 0 is now, 1 usually the due date. vib: VIF and VIFEs as
    sent. text: the plain text unit of VIF 7C. raw: the number on the wire, before scaling. value: scaled number
    [meaning.unit], text, bytes, date or time; None when there is none, then `problem` says why ("" : no data field).
    """

    coding: int
    function: str
    storage: int
    tariff: int
    subunit: int
    vib: bytes
    text: str
    raw: Decimal | None
    value: Decimal | str | bytes | date | datetime | time | None
    problem: str

    @property
    def meaning(self) -> vif.Meaning:
        """Quantity, unit and qualifiers."""
        return vif.meaning(self.vib, self.text)


@dataclass(frozen=True, slots=True)
class Records:
    """All records of one telegram.

    vendor: what stands behind DIF 0F or 1F, None when neither came. more_follow: DIF 1F: ask for the next telegram.
    """

    records: tuple[Record, ...]
    vendor: bytes | None = None
    more_follow: bool = False


def decode_records(data: bytes, *, msb_first: bool = False) -> Records:
    """Take the application data apart. msb_first: mode 2, the high byte of a number comes first (CI 76).

    Raises: FrameError when a record is cut short or uses a reserved coding.
    """
    records: list[Record] = []
    at = 0
    while at < len(data):
        dif = data[at]
        if dif == FILLER:
            at += 1
        elif dif in (VENDOR_DATA, VENDOR_AND_MORE):
            return Records(tuple(records), data[at + 1 :], dif == VENDOR_AND_MORE)
        else:
            record, at = _record(data, at, msb_first)
            records.append(record)
    return Records(tuple(records))


def _record(data: bytes, at: int, msb_first: bool) -> tuple[Record, int]:
    coding = data[at] & 0x0F
    if coding == values.SPECIAL:
        raise FrameError(f"DIF {data[at]:02X} is reserved", data, sort="reserved")
    function = FUNCTIONS[(data[at] >> 4) & 3]
    storage, tariff, subunit, at = _dib(data, at)
    vib, text, at = _vib(data, at)
    payload, at, lvar = _payload(data, at, coding)
    if msb_first and coding != values.VARIABLE:
        payload = payload[::-1]
    meaning = vif.meaning(vib, text)
    raw, value = _value(coding, payload, lvar, meaning)
    problem = ""
    if isinstance(value, Invalid):
        problem, value = value.reason, None
    return Record(coding, function, storage, tariff, subunit, vib, text, raw, value, problem), at


def _dib(data: bytes, at: int) -> tuple[int, int, int, int]:
    storage, tariff, subunit, shift = (data[at] >> 6) & 1, 0, 0, 0
    while data[at] & 0x80:
        at += 1
        if shift == MAX_EXTENSIONS:
            raise FrameError("more than 10 DIFEs", data, sort="record")
        if at >= len(data):
            raise FrameError("the telegram ends inside a DIFE", data, sort="length", also=("record",))
        storage |= (data[at] & 0x0F) << (1 + 4 * shift)
        tariff |= ((data[at] >> 4) & 3) << (2 * shift)
        subunit |= ((data[at] >> 6) & 1) << shift
        shift += 1
    return storage, tariff, subunit, at + 1


def _vib(data: bytes, at: int) -> tuple[bytes, str, int]:
    """VIF and VIFEs; the text of 7C/FC (length, then letters sent backwards) stands behind VIF or behind the VIFEs.

    Meters do either (Elvaco CMa11 the first, others the second as later editions of the standard say): the first is
    taken when printable letters stand there.
    """
    if at >= len(data):
        raise FrameError("the telegram ends before a VIF", data, sort="length", also=("record",))
    vib, text = bytearray([data[at]]), ""
    at += 1
    has_text = vib[0] & 0x7F == 0x7C
    early = has_text and (vib[0] == 0x7C or _printable_text(data, at))
    if early:
        text, at = _text(data, at)
    while vib[-1] & 0x80:
        if len(vib) > MAX_EXTENSIONS:
            raise FrameError("more than 10 VIFEs", data, sort="record")
        if at >= len(data):
            raise FrameError("the telegram ends inside a VIFE", data, sort="length", also=("record",))
        vib.append(data[at])
        at += 1
    if has_text and not early:
        text, at = _text(data, at)
    return bytes(vib), text, at


def _printable_text(data: bytes, at: int) -> bool:
    size = data[at] if at < len(data) else 0
    letters = data[at + 1 : at + 1 + size]
    return 0 < size == len(letters) and all(0x20 <= letter < 0x7F or letter >= 0xA0 for letter in letters)


def _text(data: bytes, at: int) -> tuple[str, int]:
    size = data[at] if at < len(data) else len(data)
    if at + 1 + size > len(data):
        raise FrameError("the telegram ends inside a text unit", data, sort="length", also=("record",))
    return data[at + 1 : at + 1 + size][::-1].decode("latin-1"), at + 1 + size


def _payload(data: bytes, at: int, coding: int) -> tuple[bytes, int, int]:
    lvar = 0
    if coding == values.VARIABLE:
        if at >= len(data):
            raise FrameError("the telegram ends before a variable length", data, sort="length", also=("record",))
        lvar = data[at]
        size = values.variable_size(lvar)
        at += 1
    else:
        size = values.SIZES[coding]
    if at + size > len(data):
        raise FrameError("the telegram ends inside the data of a record", data, sort="length", also=("record",))
    return data[at : at + size], at + size, lvar


def _value(coding: int, payload: bytes, lvar: int, meaning: vif.Meaning) -> tuple[Decimal | None, Value]:
    raw: Decimal | str | bytes | Invalid | None
    if coding == values.VARIABLE:
        raw = values.variable(lvar, payload)
    else:
        raw = values.number(coding, payload, signed=meaning.kind != "flags")
    unscaled = raw if isinstance(raw, Decimal) else None
    if meaning.error:
        return unscaled, Invalid(f"the meter says: {meaning.error}")
    if meaning.kind in ("date", "datetime"):
        moment = values.moment(coding, payload)
        if moment is not None:
            return unscaled if isinstance(moment, Invalid) or meaning.changed else None, moment
    if isinstance(raw, Decimal):
        return unscaled, scaled(raw, meaning)
    return unscaled, raw


def scaled(raw: Decimal, meaning: vif.Meaning) -> Decimal:
    """Return number x scale + offset, exactly."""
    with localcontext() as context:
        context.prec = 200
        return raw * meaning.scale + meaning.offset


def record(
    quantity_vib: bytes,
    value: Decimal | int | str | bytes | date | datetime | time | None,
    *,
    coding: int,
    function: str = "instantaneous",
    storage: int = 0,
    tariff: int = 0,
    subunit: int = 0,
    text: str = "",
) -> Record:
    """Make a record to send. value: in the VIB's unit; a date, time, text or bytes for those codings."""
    meaning = vif.meaning(quantity_vib, text)
    raw: Decimal | None = None
    if isinstance(value, (int, Decimal)):
        value = Decimal(value)
        raw = (value - meaning.offset) / meaning.scale
    return Record(coding, function, storage, tariff, subunit, quantity_vib, text, raw, value, "")


def encode_records(records: Iterable[Record], *, vendor: bytes | None = None, more_follow: bool = False) -> bytes:
    """Write records as `decode_records` reads them. Raises: ValueError when a value does not fit its coding."""
    out = b"".join(_encode_dib(r) + _encode_vib(r) + _encode_data(r) for r in records)
    if more_follow:
        return out + bytes([VENDOR_AND_MORE]) + (vendor or b"")
    return out if vendor is None else out + bytes([VENDOR_DATA]) + vendor


def _encode_dib(record: Record) -> bytes:
    storage, tariff, subunit = record.storage >> 1, record.tariff, record.subunit
    out = bytearray([record.coding | FUNCTIONS.index(record.function) << 4 | (record.storage & 1) << 6])
    while storage or tariff or subunit:
        out[-1] |= 0x80
        out.append((storage & 0x0F) | (tariff & 3) << 4 | (subunit & 1) << 6)
        storage, tariff, subunit = storage >> 4, tariff >> 2, subunit >> 1
    if len(out) > 1 + MAX_EXTENSIONS:
        raise ValueError("storage, tariff or subunit too large for 10 DIFEs")
    return bytes(out)


def _encode_vib(record: Record) -> bytes:
    if record.vib[0] & 0x7F != 0x7C:
        return record.vib
    text = record.text.encode("latin-1")[::-1]
    return record.vib[:1] + bytes([len(text)]) + text + record.vib[1:]


def _encode_data(record: Record) -> bytes:
    value = record.value
    if record.coding in (0, 8):
        return b""
    if record.coding == values.VARIABLE and isinstance(value, (str, bytes)):
        return values.encode_variable(value)
    if isinstance(value, (date, time)):
        return values.encode_moment(record.coding, value)
    if record.raw is not None:
        return values.encode_number(record.coding, record.raw, signed=record.meaning.kind != "flags")
    raise ValueError(f"nothing to encode in {record}")
