"""M-Bus by profile: item is a record's head in hex, DIF DIFE VIF VIFE ("0C13"); one read-out brings all records.

The data coding in the DIF (BCD, integer, real) is left out of the comparison: makers change it between firmwares.
Address of a meter in a plan: 1 to 250, or 8 digits of the secondary address, or both as "5/12345678".
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from gateway.drivers.mbus import MbusAsk
from gateway.profile import Dialect, Item, MeterField
from gateway.protocols import mbus
from gateway.protocols.framing import Cut, split
from gateway.protocols.mbus import ApplicationError, FixedTelegram, Record, Telegram, to_house
from metering.errors import FrameError

Key = tuple[str, int, int, int, bytes]
_HEAD: Final = 19
_RECORD: Final = 8
_STATUS: Final = "status"


def group_of(field: MeterField) -> str:
    """One question brings everything."""
    return ""


def make_ask(dialect: Dialect, address: str, fields: tuple[MeterField, ...]) -> MbusAsk:
    """Return the question. Raises: FrameError for an impossible address."""
    primary, _, secondary = address.rpartition("/") if "/" in address else (address, "", "")
    if "/" in address:
        primary, _, secondary = address.partition("/")
    elif len(address) == 8:
        primary, secondary = "", address
    if primary and not (primary.isdecimal() and 0 <= int(primary) <= 250):
        raise FrameError(f"M-Bus address {address!r}: 0 to 250, or 8 digits of the secondary address", sort="address")
    if secondary and (len(secondary) != 8 or not all(digit in "0123456789Ff" for digit in secondary)):
        raise FrameError(f"secondary address {secondary!r}: 8 digits, F for any", sort="address")
    return MbusAsk(int(primary) if primary else None, secondary)


def parse(dialect: Dialect, item: str, data: bytes) -> tuple[list[Record], int | None]:
    """Return all records and the status byte. Raises: ProtocolError."""
    records: list[Record] = []
    status: int | None = None
    for piece in split(mbus.splitter(), data):
        if not isinstance(piece, Cut):
            raise FrameError("bytes between the telegrams", data)
        answer = mbus.decode(piece.raw)
        if isinstance(answer, Telegram):
            records += answer.records
            status = answer.header.status if answer.header is not None else status
        elif isinstance(answer, FixedTelegram | ApplicationError):
            raise FrameError("a telegram without records; profiles read variable data only", piece.raw, sort="layout")
    return records, status


def value(field: MeterField, parsed: tuple[list[Record], int | None]) -> int | None:
    """Return one field."""
    records, status = parsed
    item = _item(field)
    if item.item == _STATUS:
        return status
    key = key_of(item.item)
    for record in records:
        if (record.function, record.storage, record.tariff, record.subunit, record.vib) == key:
            return _number(field, item, record)
    raise FrameError(f"the read-out has no record {item.item}", sort="record")


def key_of(item: str) -> Key:
    """Return what tells a record from others. Raises: FrameError for hex that is no record's head."""
    try:
        head = bytes.fromhex(item)
        size = (0, 1, 2, 3, 4, 4, 6, 8, 0, 1, 2, 3, 4, 1, 6, 0)[head[0] & 15]
        (record,) = mbus.decode_records(head + bytes(size)).records
    except (ValueError, IndexError, FrameError):
        raise FrameError(f'"{item}" is not the head of one record (DIF DIFE VIF VIFE)', sort="record") from None
    return record.function, record.storage, record.tariff, record.subunit, record.vib


def golden_data(dialect: Dialect, request: bytes, response: bytes) -> tuple[str, bytes]:
    """Return the telegrams of a golden pair."""
    mbus.decode_frame(request)
    return "", response


def wire_sizes(item: str, fields: tuple[MeterField, ...]) -> tuple[int, int, int]:
    """Return bytes of SND_NKE and REQ_UD2, and of E5 and a telegram with twice the records the profile names."""
    return 10, 1 + _HEAD + 2 + 2 * _RECORD * len(fields), 2


def _number(field: MeterField, item: Item, record: Record) -> int | None:
    if not isinstance(record.value, Decimal):
        return None
    if field.quantity is None:
        return int(record.value)
    house = to_house(record)
    if house is None:
        house = int((record.value * item.micro).to_integral_value(ROUND_HALF_EVEN))
    return house


def _item(field: MeterField) -> Item:
    assert field.item is not None
    return field.item
