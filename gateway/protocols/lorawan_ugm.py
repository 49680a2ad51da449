"""The LoRaWAN payload of UGM gas meters; both directions.

    FF 1E time                                    header, Unix seconds
    channel 1E time 28 volume 29 flow 2A pressure 1F temperature 15 valve      21 bytes each, high byte first

volume u32 [0.001 m³], flow u16 [0.01 m³/h], pressure u8 [kPa], temperature u16 [0.01 °C], valve 00 open, 01 closed.
History rows are older than the header: each row's own time counts. There is no checksum: LoRaWAN's MIC has proved the
bytes before they come here.

Source: public codec of the UGM LoRaWAN gas meter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from metering.errors import FrameError
from metering.quantities import Quantity

_HEAD: Final = struct.Struct(">BBI")
_ROW: Final = struct.Struct(">BBIBIBHBBBHBB")
_TAGS: Final = (0x1E, 0x28, 0x29, 0x2A, 0x1F, 0x15)
DATA_PORTS: Final = range(10, 31)
STATUS_PORT, INFO_PORT = 1, 50
VALVE_OPEN, VALVE_CLOSED = 0, 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row. time_s: [s, Unix]. volume, flow, temperature: [10⁻⁶ m³, m³/h, °C]; pressure [10⁻⁶ kPa].

    valve: 0 open, 1 closed, any other code as sent.
    """

    channel: int
    time_s: int
    volume: int
    flow: int
    pressure: int
    temperature: int
    valve: int

    def house_values(self) -> dict[Quantity, int]:
        """Return {quantity: 10⁻⁶ of the house unit}; an unknown valve code counts as moving or faulty (2)."""
        valve = self.valve if self.valve in (VALVE_OPEN, VALVE_CLOSED) else 2
        return {
            "volume": self.volume,
            "flow": self.flow,
            "pressure": self.pressure,
            "temperature": self.temperature,
            "valve": valve * 1_000_000,
        }


@dataclass(frozen=True, slots=True)
class Uplink:
    """One data message. time_s: [s, Unix] when it was sent."""

    time_s: int
    measurements: tuple[Measurement, ...]


def decode(payload: bytes, f_port: int) -> Uplink:
    """Decode a data message.

    Raises: FrameError, sort "unsupported" for a port that carries no data, "length" when rows are cut.
    """
    if f_port not in DATA_PORTS:
        raise FrameError(f"UGM messages on port {f_port} carry no measurements", payload, sort="unsupported")
    if len(payload) < _HEAD.size or (len(payload) - _HEAD.size) % _ROW.size:
        text = f"UGM message of {len(payload)} bytes; 6 and a multiple of 21 are needed"
        raise FrameError(text, payload, sort="length")
    first, tag, time_s = _HEAD.unpack_from(payload)
    if (first, tag) != (0xFF, 0x1E):
        raise FrameError("UGM message does not begin with FF 1E", payload)
    rows = range(_HEAD.size, len(payload), _ROW.size)
    return Uplink(time_s, tuple(_measurement(payload, at) for at in rows))


def _measurement(payload: bytes, at: int) -> Measurement:
    channel, t1, time_s, t2, volume, t3, flow, t4, pressure, t5, temperature, t6, valve = _ROW.unpack_from(
        payload, at
    )
    if (t1, t2, t3, t4, t5, t6) != _TAGS:
        raise FrameError(f"UGM row at byte {at} has other tags than 1E 28 29 2A 1F 15", payload)
    return Measurement(
        channel, time_s, volume * 1000, flow * 10_000, pressure * 1_000_000, temperature * 10_000, valve
    )


def encode(uplink: Uplink) -> bytes:
    """Write a data message. Raises: ValueError when a value is finer or larger than the layout."""
    return _HEAD.pack(0xFF, 0x1E, uplink.time_s) + b"".join(_encode_row(row) for row in uplink.measurements)


def _encode_row(row: Measurement) -> bytes:
    steps = ((row.volume, 1000), (row.flow, 10_000), (row.pressure, 1_000_000), (row.temperature, 10_000))
    if any(value % step for value, step in steps):
        raise ValueError(f"{row} is finer than the layout")
    volume, flow, pressure, temperature = (value // step for value, step in steps)
    tags = _TAGS
    try:
        return _ROW.pack(
            row.channel, tags[0], row.time_s, tags[1], volume, tags[2], flow, tags[3], pressure, tags[4], temperature,
            tags[5], row.valve,
        )  # fmt: skip
    except struct.error as error:
        raise ValueError(f"{row} is larger than the layout: {error}") from None
