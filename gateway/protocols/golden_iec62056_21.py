"""IEC 62056-21 in the vocabulary of golden files, and our readings beside it (see `golden`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.protocols import framing
from gateway.protocols import iec62056_21 as iec
from metering.errors import ChecksumError, FrameError
from metering.quantities import from_micro

_NAMES: Final[dict[type, str]] = {
    iec.SignOn: "request",
    iec.Identification: "identification",
    iec.Option: "option",
    iec.Command: "command",
    iec.Data: "data",
    iec.Readout: "readout",
}


def adapt(_protocol: str, raw: bytes, _entry: Mapping[str, Any]) -> dict[str, Any]:
    """Decode one message, or the recording of a read-out. Raises: ProtocolError."""
    message = iec.decode(raw)
    said: dict[str, Any] = {"name": _NAMES.get(type(message), ""), "bcc": None}
    match message:
        case iec.SignOn(address):
            return said | {"address": address}
        case iec.Answer(accepted):
            return said | {"name": "ack" if accepted else "nak"}
        case iec.Option(baud_char, mode, procedure):
            return said | {"baud_char": baud_char, "mode": mode, "procedure": procedure}
        case iec.Identification():
            return said | _identity(message)
        case iec.Command(name, text):
            return said | {"command": name, "bcc": _bcc(raw)} | _data(text or "")
        case iec.Data(text, more):
            return said | {"more": more, "bcc": _bcc(raw)} | _data(text)
        case iec.Readout(identification, text, checked):
            return said | {"bcc": _bcc(raw) if checked else None} | _identity(identification) | _data(text)


def split(_protocol: str, raw: bytes) -> list[bytes]:
    """Return the messages in a recording: one whole message or read-out as it is, else cut as mode C."""
    try:
        iec.decode(raw)
    except FrameError:
        return [item.raw for item in framing.split(iec.splitter(), raw)]
    except ChecksumError:
        pass
    return [raw]


def _identity(identification: iec.Identification) -> dict[str, Any]:
    return {
        "manufacturer": identification.manufacturer,
        "baud_char": identification.baud_char,
        "baud": identification.baud,
        "identification": identification.ident,
        "enhanced": identification.enhanced or None,
    }


def _data(text: str) -> dict[str, Any]:
    sets = iec.data_sets(text)
    readings: dict[str, str] = {}
    for item in sets:
        quantity, micro = item.quantity, item.micro
        if quantity is not None and micro is not None:
            readings.setdefault(quantity, from_micro(micro))
    return {
        "data": [[item.address, item.value, item.unit] for item in sets],
        "count": len(sets),
        "readings": readings,
    }


def _bcc(raw: bytes) -> str:
    """The last byte of a block, without parity; it was checked."""
    return f"{raw[-1] & 0x7F:02X}"
