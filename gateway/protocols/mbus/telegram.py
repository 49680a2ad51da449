"""A slave's answer: long frame, header, records; telegrams that continue in the next one; both directions.

Source: EN 13757-3 clause 5 (CI fields, headers) and clause 6; public M-Bus documentation 4.8 chapters 6 and 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.protocols.mbus import link
from gateway.protocols.mbus.fixed import FixedData, decode_fixed
from gateway.protocols.mbus.header import Header, encode_long_header, long_header, short_header
from gateway.protocols.mbus.link import LinkFrame, LongFrame, decode_frame, encode_frame
from gateway.protocols.mbus.records import Record, Records, decode_records, encode_records
from gateway.protocols.mbus.security import MODE_5, encrypted_length, mode_of, open_data
from metering.errors import FrameError

CI_VARIABLE, CI_VARIABLE_MSB, CI_SHORT, CI_NO_HEADER = 0x72, 0x76, 0x7A, 0x78
CI_FIXED, CI_FIXED_MSB, CI_ERROR = 0x73, 0x77, 0x70

_APPLICATION_ERRORS: Final = (
    "unspecified error",
    "CI field not implemented",
    "buffer too long, cut",
    "too many records",
    "record ends too early",
    "more than 10 DIFEs",
    "more than 10 VIFEs",
    "reserved",
    "application busy",
    "too many readouts",
)


@dataclass(frozen=True, slots=True)
class Telegram:
    """One RSP_UD. header: None when CI 78 sends none. control: bit 20 access demand, bit 10 data flow stop."""

    control: int
    address: int
    ci: int
    header: Header | None
    body: Records

    @property
    def records(self) -> tuple[Record, ...]:
        """The values."""
        return self.body.records

    @property
    def more_follow(self) -> bool:
        """The meter has a further telegram: ask again with the other FCB."""
        return self.body.more_follow


@dataclass(frozen=True, slots=True)
class FixedTelegram:
    """One RSP_UD of an old meter."""

    control: int
    address: int
    data: FixedData


@dataclass(frozen=True, slots=True)
class ApplicationError:
    """The slave understood the frame and refuses. code: the meter's; text: in words."""

    address: int
    code: int
    text: str


Answer = Telegram | FixedTelegram | ApplicationError


def decode(frame: bytes, key: bytes | None = None) -> LinkFrame | Answer:
    """Decode one whole frame: a slave's answer to its values, anything else as a link frame.

    key: AES-128 key when the meter encrypts (mode 5).   Raises: FrameError, ChecksumError.
    """
    parsed = decode_frame(frame)
    if isinstance(parsed, LongFrame) and parsed.name == "RSP_UD":
        return decode_answer(parsed, key)
    return parsed


def decode_answer(frame: LongFrame, key: bytes | None = None) -> Answer:
    """Decode the application data of an RSP_UD.

    Raises: FrameError, sort "unsupported" for a CI that we do not know, "key", "length", "record".
    """
    ci, data = frame.ci, frame.data
    if ci in (CI_FIXED, CI_FIXED_MSB):
        return FixedTelegram(frame.control, frame.address, decode_fixed(data, msb_first=ci == CI_FIXED_MSB))
    if ci == CI_ERROR:
        return _application_error(frame)
    if ci == CI_NO_HEADER:
        return Telegram(frame.control, frame.address, ci, None, decode_records(data))
    if ci in (CI_VARIABLE, CI_VARIABLE_MSB):
        return _variable(frame, key)
    if ci == CI_SHORT:
        header, rest = short_header(data)
        if _encrypted(header, rest):  # the IV needs the address, which a short header does not have
            rest = open_data(rest, header.configuration, address=b"", access_no=0, key=None).data
        return Telegram(frame.control, frame.address, ci, header, decode_records(rest))
    raise FrameError(f"control information {ci:02X} is not supported", data, sort="unsupported")


def _variable(frame: LongFrame, key: bytes | None) -> Telegram:
    data, msb_first = frame.data, frame.ci == CI_VARIABLE_MSB
    if msb_first:
        data = data[3::-1] + data[5:3:-1] + data[6:10] + data[11:9:-1] + data[12:]
    header, rest = long_header(data)
    if _encrypted(header, rest):
        address = data[4:6] + data[:4] + data[6:8]
        rest = open_data(rest, header.configuration, address=address, access_no=data[8], key=key).data
    body = decode_records(rest, msb_first=msb_first)
    return Telegram(frame.control, frame.address, frame.ci, header, body)


def _encrypted(header: Header, data: bytes) -> bool:
    """Wired meters have long put a signature or nothing into these two bytes: only mode 5 that fits counts."""
    return mode_of(header.configuration) == MODE_5 and 0 < encrypted_length(header.configuration) <= len(data)


def _application_error(frame: LongFrame) -> ApplicationError:
    code = frame.data[0] if frame.data else 0
    text = _APPLICATION_ERRORS[code] if code < len(_APPLICATION_ERRORS) else f"error {code:02X}"
    return ApplicationError(frame.address, code, text)


def encode(telegram: Telegram) -> bytes:
    """Write a slave's answer with long, short or no header, unencrypted. Raises: ValueError."""
    body, header, ci = telegram.body, telegram.header, telegram.ci
    data = encode_records(body.records, vendor=body.vendor, more_follow=body.more_follow)
    if ci == CI_VARIABLE and header is not None:
        data = encode_long_header(header) + data
    elif ci == CI_SHORT and header is not None:
        data = bytes([header.access_no or 0, header.status]) + header.configuration.to_bytes(2, "little") + data
    elif ci != CI_NO_HEADER:
        raise ValueError(f"cannot write control information {ci:02X}")
    return encode_frame(LongFrame(telegram.control, telegram.address, ci, data))


def response(address: int, header: Header, records: Iterable[Record], *, more_follow: bool = False) -> Telegram:
    """Make the answer of a slave with a long header."""
    return Telegram(
        link.RSP_UD, address, CI_VARIABLE, header, Records(tuple(records), b"" if more_follow else None, more_follow)
    )


class Collector:
    """Joins the telegrams of one readout: a meter that has more than one frame says so with DIF 1F.

    `add` each answer, ask again with the other FCB while it returns True. limit: a meter that never ends is cut off.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._telegrams: list[Telegram] = []

    def add(self, telegram: Telegram) -> bool:
        """Take one telegram; True when a further one must be asked for.

        Raises: FrameError, sort "foreign", when it is another meter's; "repeated" when it is the last one again.
        """
        if self._telegrams:
            first, last = self._telegrams[0], self._telegrams[-1]
            if _identity(telegram) != _identity(first):
                text = f"telegram of {_identity(telegram)} among those of {_identity(first)}"
                raise FrameError(text, sort="foreign")
            if telegram.records and telegram.records == last.records and _access(telegram) == _access(last):
                raise FrameError("the meter sent the last telegram again", sort="repeated")
        if len(self._telegrams) >= self._limit:
            raise FrameError(f"more than {self._limit} telegrams in one readout", sort="length")
        self._telegrams.append(telegram)
        return telegram.more_follow

    @property
    def records(self) -> tuple[Record, ...]:
        """All values so far, in the order sent."""
        return tuple(record for telegram in self._telegrams for record in telegram.records)


def _identity(telegram: Telegram) -> tuple[str, str, int | None, int | None]:
    header = telegram.header
    return (
        ("", "", None, None)
        if header is None
        else (header.id, header.manufacturer, header.version, header.medium_code)
    )


def _access(telegram: Telegram) -> int | None:
    return None if telegram.header is None else telegram.header.access_no
