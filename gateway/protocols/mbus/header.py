"""Who speaks: manufacturer letters, media, the long and short transport headers.

Source: EN 13757-3 clause 5 and table of device types; manufacturer letters of the FLAG association.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from metering.errors import FrameError

MEDIA: Final = {
    0x00: "Other",
    0x01: "Oil",
    0x02: "Electricity",
    0x03: "Gas",
    0x04: "Heat: Outlet",
    0x05: "Steam",
    0x06: "Warm water (30-90°C)",
    0x07: "Water",
    0x08: "Heat Cost Allocator",
    0x09: "Compressed Air",
    0x0A: "Cooling load meter: Outlet",
    0x0B: "Cooling load meter: Inlet",
    0x0C: "Heat: Inlet",
    0x0D: "Heat / Cooling load meter",
    0x0E: "Bus/System",
    0x0F: "Unknown Medium",
    0x10: "Irrigation Water",
    0x11: "Water Logger",
    0x12: "Gas Logger",
    0x13: "Gas Converter",
    0x14: "Calorific value",
    0x15: "Hot water (>90°C)",
    0x16: "Cold water",
    0x17: "Dual water",
    0x18: "Pressure",
    0x19: "A/D Converter",
    0x1A: "Smoke Detector",
    0x1B: "Ambient Sensor",
    0x1C: "Gas Detector",
    0x20: "Breaker: Electricity",
    0x21: "Valve: Gas or Water",
    0x25: "Customer Unit: Display Device",
    0x28: "Waste Water",
    0x29: "Garbage",
    0x30: "Service Unit",
    0x36: "Radio Converter: System",
    0x37: "Radio Converter: Meter",
}


@dataclass(frozen=True, slots=True)
class Header:
    """Identity and state at the head of a telegram. Fields that a short header lacks are "" or None.

    id: 8 digits as printed on the meter (hex digits when the maker does not keep to BCD). status: see `status_words`.
    configuration: security mode and encrypted length (wireless), signature (wired).
    """

    id: str
    manufacturer: str
    version: int | None
    medium_code: int | None
    access_no: int | None
    status: int
    configuration: int

    @property
    def medium(self) -> str:
        """Name of the medium, "" when the header does not say."""
        return "" if self.medium_code is None else medium_name(self.medium_code)


def medium_name(code: int) -> str:
    """Return the name of a device type."""
    if code in MEDIA:
        return MEDIA[code]
    return "Reserved" if code < 0x40 else f"Unknown medium (0x{code:02x})"


def manufacturer_name(code: int) -> str:
    """Return three letters: three 5-bit fields, A is 1."""
    return "".join(chr(64 + (code >> shift & 0x1F)) for shift in (10, 5, 0))


def manufacturer_code(name: str) -> int:
    """Return the 16-bit code of three letters. Raises: ValueError."""
    if len(name) != 3 or not all("@" <= letter <= "_" for letter in name):
        raise ValueError(f"manufacturer {name!r}: three capital letters are needed")
    return sum((ord(letter) - 64) << shift for letter, shift in zip(name, (10, 5, 0), strict=True))


def status_words(status: int) -> tuple[str, ...]:
    """Return what a status byte says, application errors first; bits 5-7 are the maker's."""
    words = []
    if status & 3:
        words.append(("application busy", "application error", "abnormal condition or alarm")[(status & 3) - 1])
    for bit, word in ((4, "power low"), (8, "permanent error"), (16, "temporary error")):
        if status & bit:
            words.append(word)
    if status & 0xE0:
        words.append(f"maker's status {status >> 5:03b}")
    return tuple(words)


def decode_address(data: bytes) -> tuple[str, str, int, int]:
    """Read id (4, low byte first), manufacturer (2), version, medium."""
    return (
        data[3::-1].hex().upper(),
        manufacturer_name(int.from_bytes(data[4:6], "little")),
        data[6],
        data[7],
    )


def encode_address(id: str, manufacturer: str, version: int, medium_code: int) -> bytes:
    """Write an 8-byte address. Raises: ValueError."""
    raw = bytes.fromhex(id)
    if len(raw) != 4:
        raise ValueError(f"id {id!r}: 8 digits are needed")
    return raw[::-1] + manufacturer_code(manufacturer).to_bytes(2, "little") + bytes([version, medium_code])


def long_header(data: bytes) -> tuple[Header, bytes]:
    """Read the 12-byte header of CI 72; return it and what follows. Raises: FrameError."""
    if len(data) < 12:
        raise FrameError("the telegram ends inside its header", data, sort="length")
    id, manufacturer, version, medium = decode_address(data)
    configuration = int.from_bytes(data[10:12], "little")
    return Header(id, manufacturer, version, medium, data[8], data[9], configuration), data[12:]


def short_header(data: bytes) -> tuple[Header, bytes]:
    """Read the 4-byte header of CI 7A; return it and what follows. Raises: FrameError."""
    if len(data) < 4:
        raise FrameError("the telegram ends inside its header", data, sort="length")
    return Header("", "", None, None, data[0], data[1], int.from_bytes(data[2:4], "little")), data[4:]


def encode_long_header(header: Header) -> bytes:
    """Write the 12-byte header of CI 72. Raises: ValueError."""
    address = encode_address(header.id, header.manufacturer, header.version or 0, header.medium_code or 0)
    return address + bytes([header.access_no or 0, header.status]) + header.configuration.to_bytes(2, "little")
