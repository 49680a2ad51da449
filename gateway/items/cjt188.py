"""CJ/T 188 by profile: item is the DI in hex; value names a number of its layout, or the status bytes.

value: current, settlement (901F of water and gas; D1xx, D2xx: current), energy_1, energy_2, power, flow, volume,
supply, back (heat), status (ST, first byte low). A number's own unit byte decides its unit; the profile's unit holds
where the meter sends none that is known.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

from gateway.drivers.cjt188 import CjtAsk
from gateway.profile import Dialect, Item, MeterField
from gateway.protocols import cjt188
from gateway.protocols.cjt188 import UNITS, Amount, Freeze, Heat, Layout, Message, Settlement, Volumes
from metering.errors import FrameError

_KINDS: Final = ("volume", "energy", "flow", "power")
_PREAMBLE: Final = len(cjt188.PREAMBLE)
_OVERHEAD: Final = 13
_DATA: Final = {0x901F: 22, 0x911F: 46, 0x907F: 10}
_WORDS: Final = {
    Volumes: ("current", "settlement", "status"),
    Heat: ("energy_1", "energy_2", "power", "flow", "volume", "supply", "back", "status"),
    Settlement: ("current",),
    Freeze: ("volume", "flow", "temperature"),
}


def group_of(field: MeterField) -> str:
    """One question brings one DI."""
    return _item(field).item.upper()


def make_ask(dialect: Dialect, address: str, fields: tuple[MeterField, ...]) -> CjtAsk:
    """Return the question. Raises: ProtocolError for an address that has not 14 digits."""
    item = _item(fields[0]).item
    cjt188.encode(cjt188.read_request(dialect.meter_type, address, int(item, 16), order=dialect.di_order))
    return CjtAsk(dialect.meter_type, address, int(item, 16), dialect.di_order)


def parse(dialect: Dialect, item: str, data: bytes) -> Message:
    """Return the meter's answer, understood."""
    head = int(item, 16).to_bytes(2, dialect.di_order) + b"\x00"
    frame = cjt188.Frame(dialect.meter_type, "0" * 14, 0x81, head + data)
    return cjt188.parse(frame, Layout(unit_first=dialect.unit_first), order=dialect.di_order)


def value(field: MeterField, parsed: Message) -> int | None:
    """Return one field."""
    item, body = _item(field), parsed.body
    words = _WORDS.get(type(body), ())
    if item.value not in words:
        size = len(body.encode())
        raise FrameError(f"{size} bytes behind DI {item.item} have no {item.value}", body.encode(), sort="layout")
    if item.value == "status":
        return _state(item, body.status if isinstance(body, Volumes | Heat) else b"")
    if isinstance(body, Settlement):
        return _number(field, item, body.value)
    amount = getattr(body, item.value)
    assert isinstance(amount, Amount)
    return _number(field, item, amount)


def golden_data(dialect: Dialect, request: bytes, response: bytes) -> tuple[str, bytes]:
    """Return DI and the bytes behind SER of a golden pair."""
    asked, answered = cjt188.decode(request), cjt188.decode(response)
    di, order = cjt188.di_of(asked.data[:2], dialect.di_order)
    wanted = cjt188.read_request(dialect.meter_type, asked.address, di, ser=asked.data[2], order=order)
    if asked != wanted:
        raise FrameError(f"request: with this meter_type and di_order it is {cjt188.encode(wanted).hex(' ').upper()}")
    if answered.address != asked.address or answered.data[:2] != asked.data[:2] or answered.abnormal:
        raise FrameError("request and response do not belong together (address or DI)")
    return f"{di:04X}", answered.data[3:]


def wire_sizes(item: str, fields: tuple[MeterField, ...]) -> tuple[int, int, int]:
    """Return bytes of request and answer (four FE before each, the length of the standard's layout)."""
    heat = any(_item(field).value in ("supply", "back", "energy_1", "energy_2") for field in fields)
    data = 46 if heat else _DATA.get(int(item, 16), 8)
    return _PREAMBLE + _OVERHEAD + 3, _PREAMBLE + _OVERHEAD + data, 1


def _number(field: MeterField, item: Item, amount: Amount) -> int | None:
    if item.decimals is not None:
        amount = replace(amount, decimals=item.decimals)
    number = amount.number
    if number is None:
        return None
    unit = UNITS.get(amount.unit_code)
    if unit is None or item.value in ("supply", "back", "temperature"):
        micro = Decimal(number).scaleb(-amount.decimals) * item.micro
        if micro != int(micro):
            raise FrameError("more than 6 decimals of the house unit", amount.digits, sort="decimals")
        return int(micro)
    kind = next((kind for kind in _KINDS if (field.quantity or "").startswith(kind)), "volume")
    for known in _KINDS:
        if known == kind and unit.kind == kind:
            return amount.micro(unit.kind)
    raise FrameError(f"{field.name} comes in {unit.name}", amount.encode(), sort="unit")


def _state(item: Item, status: bytes) -> int | None:
    raw = int.from_bytes(status, "little")
    if not item.words:
        return raw
    return dict(item.words).get(raw & item.mask)


def _item(field: MeterField) -> Item:
    assert field.item is not None
    return field.item
