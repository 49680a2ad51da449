"""DL/T 645 meters on a simulated bus: the identifiers of their profile, their address, and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from gateway.items.dlt645 import edition_of
from gateway.profile import MeterField
from gateway.protocols import dlt645
from gateway.protocols.dlt645 import CODES, Form, form_of
from gateway.protocols.dlt645.items import stamp_text
from gateway.protocols.dlt645.message import TIME
from gateway.protocols.framing import StreamSplitter
from metering.clock import parse_rfc3339
from metering.errors import FrameError
from simulators.answer_log import asked_columns
from simulators.bus_meter import BusMeter, Spoken

_DATE: Final = (0x04000101, 0xC010)
_TIME: Final = (0x04000102, 0xC011)
_MOST_MOVED_MS: Final = 5 * 60 * 1000


def splitter() -> StreamSplitter:
    """Cut requests out of the line."""
    return dlt645.splitter()


def find(meters: Sequence[BusMeter], raw: bytes) -> list[BusMeter]:
    """Return the meters that feel addressed."""
    frame = dlt645.decode(raw)
    if frame.from_meter:
        return []
    if frame.address == dlt645.EVERYBODY:
        return list(meters) if frame.control == TIME else []
    return [meter for meter in meters if _same(frame.address, meter.settings.address)]


def answer(meter: BusMeter, raw: bytes, now_ms: int) -> Spoken | None:
    """Answer one whole request."""
    asked = dlt645.decode(raw)
    edition = edition_of(meter.profile.dialect)
    codes, address = CODES[edition], meter.settings.address
    log = asked_columns(meter.settings.meter, 0, asked.control, 0, 1)
    if asked.address == dlt645.EVERYBODY:
        _set_time(meter, asked.data, now_ms)
        return None  # nobody answers a broadcast
    if asked.control == codes.read_address and codes.read_address:
        frame = dlt645.Frame(address, asked.control | 0x80, dlt645.Address(address).encode())
        return Spoken(dlt645.PREAMBLE + dlt645.encode(frame), log)
    di = int.from_bytes(asked.data[: codes.identifier], "little")
    log = asked_columns(meter.settings.meter, 0, asked.control, di, 1)
    if (shown := _clock_item(meter, di, now_ms)) is not None and asked.control == codes.read:
        data = asked.data[: codes.identifier] + shown
        frame = dlt645.Frame(address, asked.control | 0x80, data)
        return Spoken(dlt645.PREAMBLE + dlt645.encode(frame), log)
    field = next((f for f in meter.profile.fields if f.item is not None and int(f.item.item, 16) == di), None)
    if asked.control != codes.read or field is None:
        refusal = dlt645.Frame(address, asked.control | 0xC0, b"\x02")
        return Spoken(dlt645.PREAMBLE + dlt645.encode(refusal), log)
    index = meter.index(now_ms)
    is_index = field is meter.profile.index
    micro = index if is_index else meter.value_of(field, index, now_ms)
    data = asked.data[: codes.identifier] + _encode(field, micro, form_of(di, edition))
    return Spoken(
        dlt645.PREAMBLE + dlt645.encode(dlt645.Frame(address, asked.control | 0x80, data)),
        log,
        index if is_index else None,
    )


def other_address(raw: bytes) -> bytes:
    """Return the same answer as if another meter had given it."""
    frame = dlt645.decode(raw)
    twin = f"{(int(frame.address, 16) ^ 0x11):012X}"
    return raw[: raw.index(b"\x68")] + dlt645.encode(dlt645.Frame(twin, frame.control, frame.data))


def _set_time(meter: BusMeter, raw: bytes, now_ms: int) -> None:
    """Move by at most five minutes, as the standard has it."""
    text = stamp_text(raw) if len(raw) == 6 else None
    if text is None:
        return
    told = parse_rfc3339(f"{text}Z")
    if abs(told - meter.local_ms(now_ms)) <= _MOST_MOVED_MS:
        meter.set_clock(told, now_ms)


def _clock_item(meter: BusMeter, di: int, now_ms: int) -> bytes | None:
    """Return date (WW DD MM YY) or time (ss mm hh) of its clock; None for any other identifier."""
    if di not in (*_DATE, *_TIME):
        return None
    moment = datetime.fromtimestamp(meter.local_ms(now_ms) // 1000, UTC)
    return bytes.fromhex(f"0{moment:%w%d%m%y}" if di in _DATE else f"{moment:%S%M%H}")


def _encode(field: MeterField, micro: int, form: Form | None) -> bytes:
    assert field.item is not None
    if form is None or field.item.size:
        form = Form("number", field.item.size, field.item.decimals or 0, signed=field.item.signed)
    number = int(micro / field.item.micro * 10**form.decimals)
    try:
        return dlt645.Item.of(number, form).raw
    except FrameError:
        return b"\xff" * form.size


def _same(asked: str, own: str) -> bool:
    return len(asked) == len(own) and all(a in ("A", o) for a, o in zip(asked.upper(), own, strict=True))
