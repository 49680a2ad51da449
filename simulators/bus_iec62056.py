"""IEC 62056-21 meters on a simulated bus: sign-on, a read-out of the profile's values, LIS-200 reads.

The meter keeps the line's speed (it offers the character of the baud rate it has): pseudo-terminals have no speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.profile import MeterField
from gateway.protocols import iec62056_21 as iec
from gateway.protocols.framing import StreamSplitter
from metering.quantities import from_micro
from simulators.answer_log import asked_columns
from simulators.bus_meter import BusMeter, Spoken

_MAKER: Final = "MTG"


def splitter() -> StreamSplitter:
    """Cut requests out of the line."""
    return iec.splitter("reader")


class Talk:
    """Who is being talked to: one meter at a time."""

    def __init__(self, baud: int) -> None:
        self._baud_char = next((char for char, rate in iec.BAUD.items() if rate == baud), "5")
        self._partner: BusMeter | None = None

    def find(self, meters: Sequence[BusMeter], raw: bytes) -> list[BusMeter]:
        """Return the meters that feel addressed."""
        message = iec.decode(raw)
        if isinstance(message, iec.SignOn):
            addressed = [meter for meter in meters if message.address in ("", meter.settings.address)]
            self._partner = addressed[0] if addressed else None
            return addressed
        if isinstance(message, iec.Command) and message.name == "B0":
            self._partner = None
        return [self._partner] if self._partner is not None else []

    def answer(self, meter: BusMeter, raw: bytes, now_ms: int) -> Spoken | None:
        """Answer one whole request."""
        log = asked_columns(meter.settings.meter, 0, raw[0], 0, 1)
        index = meter.index(now_ms)
        match iec.decode(raw):
            case iec.SignOn():
                return Spoken(iec.encode(iec.Identification(_MAKER, self._baud_char, "SIM1")), log)
            case iec.Option(mode="1"):
                return Spoken(iec.encode(iec.Data("(0)")), log)
            case iec.Option():
                lines = "".join(f"{_line(meter, field, index, now_ms)}\r\n" for field in meter.profile.fields)
                return Spoken(iec.encode(iec.Data(f"{lines}!\r\n")), log, index)
            case iec.Command("R1", text) if text is not None:
                return self._read(meter, text.partition("(")[0], index, now_ms, log)
        return None

    def _read(self, meter: BusMeter, address: str, index: int, now_ms: int, log: str) -> Spoken:
        for field in meter.profile.fields:
            if field.item is not None and field.item.item == address:
                said = index if field is meter.profile.index else None
                return Spoken(iec.encode(iec.Data(_line(meter, field, index, now_ms))), log, said)
        return Spoken(iec.encode(iec.Data("(#0004)")), log)


def _line(meter: BusMeter, field: MeterField, index: int, now_ms: int) -> str:
    assert field.item is not None
    micro = index if field is meter.profile.index else meter.value_of(field, index, now_ms)
    return f"{field.item.item}({from_micro(micro)}*{field.item.unit})"


def other_address(raw: bytes) -> bytes:
    """An answer names no meter: it comes as it is."""
    return raw
