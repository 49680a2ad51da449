"""M-Bus meters on a simulated bus: reset, selection by secondary address, one telegram with the profile's records.

Address as in a plan: "5", "12345678", or "5/12345678"; a meter with the primary address 5 alone has the secondary
00000005.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from gateway.items.mbus import key_of
from gateway.profile import MeterField
from gateway.protocols import mbus
from gateway.protocols.framing import StreamSplitter
from gateway.protocols.mbus import Header, LongFrame, Record, ShortFrame
from gateway.protocols.mbus.link import SELECTED
from simulators.answer_log import asked_columns
from simulators.bus_meter import BusMeter, Spoken

_ACK: Final = b"\xe5"
_MEDIA: Final = {"gas": 3, "water": 7, "electricity": 2, "heat": 4}
_WIDEST: Final = 4


def splitter() -> StreamSplitter:
    """Cut requests out of the line."""
    return mbus.splitter()


class Selection:
    """Which meters of a bus are selected: state of the bus, not of a meter."""

    def __init__(self) -> None:
        self.selected: list[BusMeter] = []

    def find(self, meters: Sequence[BusMeter], raw: bytes) -> list[BusMeter]:
        """Return the meters that feel addressed."""
        frame = mbus.decode_frame(raw)
        if isinstance(frame, LongFrame) and frame.address == SELECTED and frame.ci == 0x52:
            wanted = frame.data[:4][::-1].hex().upper()
            self.selected = [
                m for m in meters if all(w in ("F", o) for w, o in zip(wanted, _secondary(m), strict=True))
            ]
            return self.selected
        if not isinstance(frame, ShortFrame):
            return []
        if frame.address == SELECTED:
            chosen, self.selected = self.selected, [] if frame.name == "SND_NKE" else self.selected
            return chosen
        return [meter for meter in meters if _primary(meter) in (frame.address, None) or frame.address == 0xFE]


def answer(meter: BusMeter, raw: bytes, now_ms: int) -> Spoken | None:
    """Answer one whole request."""
    frame = mbus.decode_frame(raw)
    log = asked_columns(meter.settings.meter, _primary(meter) or 0, raw[1] if len(raw) > 1 else 0, 0, 1)
    if not isinstance(frame, ShortFrame) or frame.name != "REQ_UD2":
        return Spoken(_ACK, log)
    index = meter.index(now_ms)
    records = [_record(meter, field, index, now_ms) for field in meter.profile.fields if _is_record(field)]
    header = Header(_secondary(meter), "MTG", 1, _MEDIA[meter.profile.medium], now_ms // 1000 & 0xFF, 0, 0)
    return Spoken(mbus.encode(mbus.response(_primary(meter) or 0, header, records)), log, index)


def other_address(raw: bytes) -> bytes:
    """Return the same answer as if another meter had given it."""
    frame = mbus.decode_frame(raw)
    if not isinstance(frame, LongFrame):
        return raw
    data = bytes((frame.data[0] ^ 0x11,)) + frame.data[1:]
    return mbus.encode_frame(LongFrame(frame.control, frame.address ^ 0x11, frame.ci, data))


def step_of(field: MeterField) -> int:
    """Return the last digit of an index [10⁻⁶ of its unit]."""
    assert field.item is not None
    return int(_scale(field.item.item) * field.item.micro)


def _record(meter: BusMeter, field: MeterField, index: int, now_ms: int) -> Record:
    assert field.item is not None
    micro = index if field is meter.profile.index else meter.value_of(field, index, now_ms)
    function, storage, tariff, subunit, vib = key_of(field.item.item)
    scale = _scale(field.item.item)
    steps = int(micro / field.item.micro / scale)
    coding = bytes.fromhex(field.item.item)[0] & 15
    return mbus.record(
        vib, Decimal(steps) * scale, coding=coding or _WIDEST, function=function, storage=storage, tariff=tariff,
        subunit=subunit,
    )  # fmt: skip


def _scale(item: str) -> Decimal:
    """Return the value of one step [the record's unit]."""
    made = mbus.decode_records(bytes.fromhex(item) + b"\x01" + bytes(7)).records[0]
    assert isinstance(made.value, Decimal)
    return made.value


def _is_record(field: MeterField) -> bool:
    return field.item is not None and field.item.item != "status"


def _primary(meter: BusMeter) -> int | None:
    first = meter.settings.address.partition("/")[0]
    return int(first) if len(first) < 8 else None


def _secondary(meter: BusMeter) -> str:
    first, _, second = meter.settings.address.partition("/")
    return second or (first if len(first) == 8 else f"{int(first):08d}")
