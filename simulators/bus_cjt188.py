"""CJ/T 188 meters on a simulated bus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.protocols import cjt188
from gateway.protocols.cjt188 import Amount, Clock, Heat, Plain, Settlement, Volumes
from gateway.protocols.cjt188.message import DI_SET_TIME, WRITE
from gateway.protocols.framing import StreamSplitter
from metering.clock import parse_rfc3339, rfc3339
from metering.reading import Flag
from simulators.answer_log import asked_columns
from simulators.bus_meter import BusMeter, Spoken

_OWN_SER: Final = 0x03
_M3, _KWH, _KW, _M3H = 0x2C, 0x05, 0x17, 0x35


def step_of(meter_decimals: int | None) -> int:
    """Return the last digit of an index [10⁻⁶ m³ or kWh]."""
    return int(10 ** (6 - (2 if meter_decimals is None else meter_decimals)))


def splitter() -> StreamSplitter:
    """Cut requests out of the line."""
    return cjt188.splitter()


def find(meters: Sequence[BusMeter], raw: bytes) -> list[BusMeter]:
    """Return the meters that feel addressed."""
    frame = cjt188.decode(raw)
    if frame.from_meter:
        return []
    return [meter for meter in meters if frame.address in (meter.settings.address, cjt188.WILDCARD)]


def answer(meter: BusMeter, raw: bytes, now_ms: int) -> Spoken | None:
    """Answer one whole request."""
    asked = cjt188.decode(raw)
    address, kind = meter.settings.address, meter.profile.dialect.meter_type
    di, order = cjt188.di_of(asked.data[:2], None)
    ser = asked.data[2] if meter.settings.echoes_ser and len(asked.data) > 2 else _OWN_SER
    log = asked_columns(meter.settings.meter, 0, asked.control, di, 1)
    index: int | None = None
    body: Volumes | Heat | Settlement | Plain | None = None
    if asked.control == 0x01 and di == 0x901F:
        index = meter.index(now_ms)
        body = _current(meter, index, now_ms)
    elif asked.control == 0x01 and 0xD120 <= di <= 0xD12B:
        body = Settlement(_volume(meter, meter.index(now_ms) // 2), di - 0xD11F)
    elif asked.control == WRITE and di == DI_SET_TIME:
        body = _set_time(meter, asked.data[3:], now_ms)
    elif asked.control in (0x03, 0x04, 0x15):
        body = Plain(b"")
    if body is None:
        refusal = cjt188.Frame(kind, address, asked.control | 0xC0, bytes((ser, 0x04, 0x00)))
        return Spoken(cjt188.PREAMBLE[:2] + cjt188.encode(refusal), log)
    message = cjt188.Message(kind, address, asked.control | 0x80, di, order, ser, body)
    return Spoken(cjt188.PREAMBLE[:2] + cjt188.encode(cjt188.build(message)), log, index)


def other_address(raw: bytes) -> bytes:
    """Return the same answer as if another meter had given it."""
    at = raw.index(b"\x68")
    frame = cjt188.decode(raw)
    twin = f"{(int(frame.address, 16) ^ 0x11):014X}"
    return raw[:at] + cjt188.encode(cjt188.Frame(frame.meter_type, twin, frame.control, frame.data))


def _current(meter: BusMeter, index: int, now_ms: int) -> Volumes | Heat:
    clock = Clock.of(rfc3339(meter.local_ms(now_ms))[:19])
    if meter.profile.dialect.meter_type & 0xF0 != 0x20:
        volume = _volume(meter, index)
        return Volumes(volume, _volume(meter, index // 2), clock, _status(meter.flags))
    beside = meter.values(index, now_ms)
    energy = Amount.of(index // 10_000, _KWH)
    return Heat(
        Amount.of(index // 20_000, _KWH), energy, Amount.of(beside.get("power", 0) // 10_000, _KW),
        Amount.of(beside.get("flow", 0) // 100, _M3H, decimals=4), Amount.of(beside.get("volume", 0) // 10_000, _M3),
        _bare(beside.get("temperature", 0)), _bare(beside.get("temperature_2", 0)), Amount(bytes(3), 0, 0),
        clock, _status(meter.flags),
    )  # fmt: skip


def _status(flags: int) -> bytes:
    """Return ST: valve in bits 0 and 1 (1 is closed), battery in bit 2; profiles read the same bits."""
    low = bool(flags & Flag.VALVE_CLOSED) | bool(flags & Flag.LOW_BATTERY) << 2
    return bytes((low, 0))


def _set_time(meter: BusMeter, raw: bytes, now_ms: int) -> Plain | None:
    """Take the time and say so; None, a refusal, for an impossible one."""
    text = Clock(raw).text if len(raw) == 7 else None
    if text is None or not meter.profile.takes_time:
        return None
    meter.set_clock(parse_rfc3339(f"{text}Z"), now_ms)
    return Plain(b"")


def _volume(meter: BusMeter, micro: int) -> Amount:
    item = meter.profile.index.item
    decimals = 2 if item is None or item.decimals is None else item.decimals
    return Amount.of(micro // 10 ** (6 - decimals) % 10**8, _M3, decimals=decimals)


def _bare(micro: int) -> Amount:
    """Three BCD bytes with two decimals."""
    return Amount(Amount.of(micro // 10_000, 0).digits[:3], 0, 2)
