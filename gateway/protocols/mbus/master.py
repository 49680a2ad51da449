"""What a master sends: reset, request, select by secondary address, user data, change of baud rate.

Source: EN 13757-2 and -3; secondary selection in EN 13757-3 clause 11 (public M-Bus documentation 4.8 chapter 7.1).
"""

from __future__ import annotations

from typing import Final

from gateway.protocols.mbus import link
from gateway.protocols.mbus.header import manufacturer_code
from gateway.protocols.mbus.link import LongFrame, ShortFrame, encode_frame

BAUD_CI: Final = {300: 0xB8, 600: 0xB9, 1200: 0xBA, 2400: 0xBB, 4800: 0xBC, 9600: 0xBD, 19200: 0xBE, 38400: 0xBF}

CI_APPLICATION_RESET, CI_SEND, CI_SELECT = 0x50, 0x51, 0x52


def snd_nke(address: int) -> bytes:
    """Reset the link (and deselect, at FD); the slave answers E5 and expects FCB 1 next."""
    return encode_frame(ShortFrame(link.SND_NKE, address))


def req_ud2(address: int, fcb: bool) -> bytes:
    """Ask for data. fcb: toggles after each good answer; the same value again repeats the last telegram."""
    return encode_frame(ShortFrame(link.REQ_UD2 | (link.FCB if fcb else 0), address))


def req_ud1(address: int, fcb: bool) -> bytes:
    """Ask for alarm data."""
    return encode_frame(ShortFrame(link.REQ_UD1 | (link.FCB if fcb else 0), address))


def snd_ud(address: int, ci: int, data: bytes = b"", *, fcb: bool = False) -> bytes:
    """Send user data; the slave answers E5. Raises: ValueError when the data are too long."""
    return encode_frame(LongFrame(link.SND_UD | (link.FCB if fcb else 0), address, ci, data))


def select(
    id: str, *, manufacturer: str | None = None, version: int | None = None, medium: int | None = None
) -> bytes:
    """Select slaves by secondary address; every slave that fits answers E5.

    id: 8 digits, F for any digit. manufacturer, version, medium: None for any.   Raises: ValueError.
    """
    if len(id) != 8 or not all(digit in "0123456789Ff" for digit in id):
        raise ValueError(f"secondary address {id!r}: 8 digits are needed, F for any")
    maker = 0xFFFF if manufacturer is None else manufacturer_code(manufacturer)
    rest = bytes([0xFF if version is None else version, 0xFF if medium is None else medium])
    address = bytes.fromhex(id)[::-1] + maker.to_bytes(2, "little") + rest
    return snd_ud(link.SELECTED, CI_SELECT, address)


def set_baud_rate(address: int, baud: int) -> bytes:
    """Ask a slave to change its speed. Raises: ValueError for a rate that the standard does not have."""
    if baud not in BAUD_CI:
        raise ValueError(f"baud rate {baud}; allowed: {', '.join(map(str, BAUD_CI))}")
    return snd_ud(address, BAUD_CI[baud])


def application_reset(address: int, subcode: int | None = None) -> bytes:
    """Reset a slave's application (and the order of its telegrams)."""
    return snd_ud(address, CI_APPLICATION_RESET, b"" if subcode is None else bytes([subcode]))
