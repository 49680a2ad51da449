"""The one tree of errors, grouped by who has to act.

    MetergateError
    ├── SettingsError            fix the file
    ├── TransportError           the line; retry
    │   ├── ConnectError             nobody there, refused, unplugged
    │   ├── NoAnswerError            silence until the deadline
    │   └── BrokerError              the MQTT broker refused or is away
    ├── ProtocolError            their bytes
    │   ├── FrameError               not this protocol, cut short, impossible content
    │   └── ChecksumError            right shape, damaged
    ├── MeterError               the meter answered "no"
    ├── MessageError             a broker message that is not ours or is broken
    ├── StoreError               the time-series store; retry, nothing is acknowledged meanwhile
    ├── OutboxError              the gateway's disk
    └── RegistryError            the registry's database, or a change it must refuse

A doubtful value is not an error: it is a Reading with a quality and a reason.
"""

from __future__ import annotations

from collections.abc import Mapping


class MetergateError(Exception):
    """Base of all our errors. `str()` is a sentence for a person; the keywords find the fault.

    meter, port: where it happened, "" when unknown. frame: the raw bytes, b"" when there are none.
    """

    def __init__(self, message: str, frame: bytes = b"", *, meter: str = "", port: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.frame = bytes(frame)
        self.meter = meter
        self.port = port

    def __str__(self) -> str:
        where = "".join(f" {name}={value}" for name, value in (("meter", self.meter), ("port", self.port)) if value)
        raw = f" frame={self.frame[:64].hex(' ')}{'…' if len(self.frame) > 64 else ''}" if self.frame else ""
        return f"{self.message}{where}{raw}"


class SettingsError(MetergateError):
    """A file or variable that a person must correct; `problems` has one line per fault."""

    def __init__(self, problems: str | list[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class TransportError(MetergateError):
    """The line between us and the meter or broker failed; trying again may help."""


class ConnectError(TransportError):
    """No connection: refused, unreachable, unplugged."""


class NoAnswerError(TransportError):
    """Nothing usable arrived before the deadline."""


class BrokerError(TransportError):
    """The broker refused a message (reason code) or the session to it is down."""


class ProtocolError(MetergateError):
    """Bytes that do not follow the protocol.

    sort: one machine-readable word for what is wrong (length, frame, bcd, unsupported, ...), "" for the class's own.
    also: further sorts that are wrong at the same time: a Modbus frame that is cut has no right CRC either.
    facts: what was found, by name (checksum_in_frame, checksum_computed), as texts.
    """

    default_sort = "frame"

    def __init__(
        self,
        message: str,
        frame: bytes = b"",
        *,
        sort: str = "",
        also: tuple[str, ...] = (),
        facts: Mapping[str, str] | None = None,
        meter: str = "",
        port: str = "",
    ) -> None:
        super().__init__(message, frame, meter=meter, port=port)
        self.sort = sort or self.default_sort
        self.also = also
        self.facts = dict(facts or {})


class FrameError(ProtocolError):
    """Not this protocol, cut short (sort "length"), or content that the protocol forbids."""


class ChecksumError(ProtocolError):
    """The right shape, but damaged on the way; sort is checksum, crc or bcc."""

    default_sort = "checksum"


class MeterError(MetergateError):
    """The meter answered properly, and the answer is a refusal; `code` is the meter's own."""

    def __init__(self, message: str, frame: bytes = b"", *, code: int = 0, meter: str = "", port: str = "") -> None:
        super().__init__(message, frame, meter=meter, port=port)
        self.code = code


class MessageError(MetergateError):
    """A broker message that is not of our schema, too large, or speaks for somebody else."""


class StoreError(MetergateError):
    """The time-series store could not do it now; nothing was acknowledged."""


class OutboxError(MetergateError):
    """The outbox could not keep a row (disk full, read-only, damaged); the row is still in memory."""


class RegistryError(MetergateError):
    """The registry could not be read or refuses a change."""
