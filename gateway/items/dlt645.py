"""DL/T 645 by profile: item is the identifier in hex (8 digits, 1997: 4); value is the place in a block, from 0.

Decimals, size and sign are those of the standard; a profile may give its own for identifiers of a vendor.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from gateway.drivers.dlt645 import DltAsk
from gateway.profile import Dialect, Item, MeterField
from gateway.protocols import dlt645
from gateway.protocols.dlt645 import CODES, Edition, Form, form_of
from metering.errors import FrameError

_PREAMBLE: Final = len(dlt645.PREAMBLE)
_OVERHEAD: Final = 12
_BLOCK: Final = 5
"""Items that are expected in a block (total and four tariffs) where its length is not known."""


def group_of(field: MeterField) -> str:
    """One question brings one identifier."""
    return _item(field).item.upper()


def edition_of(dialect: Dialect) -> Edition:
    """dlt645-1997 -> "1997"."""
    return "1997" if dialect.protocol == "dlt645-1997" else "2007"


def make_ask(dialect: Dialect, address: str, fields: tuple[MeterField, ...]) -> DltAsk:
    """Return the question. Raises: ProtocolError for an address that has not 12 digits."""
    edition, di = edition_of(dialect), int(_item(fields[0]).item, 16)
    dlt645.encode(dlt645.read_request(address, di, edition))
    return DltAsk(address, di, edition)


def parse(dialect: Dialect, item: str, data: bytes) -> tuple[bytes, Form | None]:
    """Return the data and the standard's form of them."""
    return data, form_of(int(item, 16), edition_of(dialect))


def value(field: MeterField, parsed: tuple[bytes, Form | None]) -> int | None:
    """Return one field."""
    data, form = parsed
    item = _item(field)
    if item.size:
        form = Form("number", item.size, item.decimals or 0, signed=item.signed)
    if form is None:
        raise FrameError(f"identifier {item.item} is not in the standard's tables: the profile needs size", data)
    place = int(item.value or 0)
    begin = place * form.size
    raw = data[begin : begin + form.size]
    if len(raw) < form.size:
        raise FrameError(
            f"{len(data)} bytes behind {item.item}; place {place} ends at {begin + form.size}", data, sort="length"
        )
    if form.kind == "status" or not field.quantity:
        bits = int.from_bytes(raw, "little")
        return dict(item.words).get(bits & item.mask) if item.words else bits
    number = dlt645.Item(raw, form).number
    if number is None:
        return None
    decimals = form.decimals if item.decimals is None else item.decimals
    micro = Decimal(number).scaleb(-decimals) * item.micro
    if micro != int(micro):
        raise FrameError("more than 6 decimals of the house unit", raw, sort="decimals")
    return int(micro)


def golden_data(dialect: Dialect, request: bytes, response: bytes) -> tuple[str, bytes]:
    """Return identifier and the bytes behind it of a golden pair."""
    edition = edition_of(dialect)
    asked, answered = dlt645.decode(request), dlt645.decode(response)
    size = CODES[edition].identifier
    di = int.from_bytes(asked.data[:size], "little")
    wanted = dlt645.read_request(asked.address, di, edition)
    if asked != wanted:
        raise FrameError(f"request: in this edition it is {dlt645.encode(wanted).hex(' ').upper()}")
    if answered.address != asked.address or answered.data[:size] != asked.data[:size] or answered.abnormal:
        raise FrameError("request and response do not belong together (address or identifier)")
    return f"{di:0{2 * size}X}", answered.data[size:]


def wire_sizes(item: str, fields: tuple[MeterField, ...]) -> tuple[int, int, int]:
    """Return bytes of request and answer (four FE before each)."""
    identifier = len(item) // 2
    form = form_of(int(item, 16), "2007" if identifier == 4 else "1997")
    size = max((_item(field).size for field in fields), default=0) or (form.size if form else 4)
    count = _BLOCK if form and form.block else 1
    head = _PREAMBLE + _OVERHEAD + identifier
    return head, head + size * count, 1


def _item(field: MeterField) -> Item:
    assert field.item is not None
    return field.item
