"""Modbus RTU meters on a simulated bus, over the same register image as the TCP farm."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.protocols.framing import StreamSplitter, crc16_modbus
from gateway.protocols.modbus import Frame, encode_rtu, rtu_splitter
from simulators.answer_log import asked_columns
from simulators.bus_meter import BusMeter, Spoken
from simulators.register_image import RegisterImage


def splitter() -> StreamSplitter:
    """Cut requests out of the line."""
    return rtu_splitter("request")


class Images:
    """The registers of a bus's meters."""

    def __init__(self) -> None:
        self._images: dict[str, RegisterImage] = {}

    def add(self, meter: BusMeter, image: RegisterImage) -> None:
        """Take a meter's registers in."""
        self._images[meter.settings.meter] = image

    def find(self, meters: Sequence[BusMeter], raw: bytes) -> list[BusMeter]:
        """Return the meters that feel addressed."""
        return [meter for meter in meters if meter.settings.unit == raw[0]]

    def answer(self, meter: BusMeter, raw: bytes, now_ms: int) -> Spoken | None:
        """Answer one whole request."""
        image, pdu = self._images[meter.settings.meter], raw[1:-2]
        block = image.block(raw[0], pdu)
        start, count = (int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")) if len(pdu) == 5 else (0, 0)
        log = asked_columns(meter.settings.meter, raw[0], pdu[0], start, count)
        if isinstance(block, int):
            return Spoken(encode_rtu(Frame(raw[0], bytes((pdu[0] | 0x80, block)))), log)
        index = meter.index(now_ms)
        image.show({q: v for q, v in meter.values(index, now_ms).items() if q != meter.profile.index.quantity})
        image.show_flags(meter.flags)
        said = image.show_index(index) if block.holds_index else None
        registers = bytes(image.space(block.function)[block.begin : block.end])
        return Spoken(encode_rtu(Frame(raw[0], bytes((block.function, len(registers))) + registers)), log, said)


def other_address(raw: bytes) -> bytes:
    """Return the same answer as if another meter had given it."""
    body = bytes((raw[0] ^ 0x11,)) + raw[1:-2]
    return body + crc16_modbus(body).to_bytes(2, "little")
