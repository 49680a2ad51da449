"""Rows for the registry's tables of events and quarantine. Each carries a digest, so that writing it twice keeps one.

Texts that came from outside pass `printable`: a database must not stumble over half a character or a NUL.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Any, Final

from metering.messages import encode
from metering.reading import Event, Reading, Row
from registry.ledger import EventRow, QuarantineRow

MAX_TEXT: Final = 500
MAX_RAW: Final = 128 * 1024
"""[bytes] What quarantine keeps of one message at most; the detail tells when there was more."""


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` cut to `limit`, with half characters and control characters spelled out."""
    safe = text[:limit].encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in safe)[:limit]


def digest_of(*parts: bytes) -> str:
    """Name bytes: 32 hex digits. Two different rows never share one, else quarantine would lose the second."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest()


def raw_of(row: Row) -> bytes:
    """Return the bytes of a row as its gateway wrote them: without our stamp."""
    if isinstance(row, Reading):
        row.received_at = None
    return encode(row)


def event_row(gateway: str, epoch: str, seq: int, event: Event, received_at: int) -> EventRow:
    """Return a gateway's event in the form of the registry's table."""
    return EventRow(
        gateway=gateway,
        epoch=epoch,
        seq=seq,
        digest=f"{zlib.crc32(encode(event)):08x}",
        at=event.at,
        received_at=received_at,
        kind=event.kind,
        meter=event.meter,
        cause=event.cause,
        count=event.count,
        text=event.text,
    )


def own_event(
    kind: str, cause: str, text: str, at: int, *, gateway: str = "", key: str = "", **more: Any
) -> EventRow:
    """Return an event that ingest itself noticed. The same gateway, cause and key make it the same event."""
    return EventRow(
        gateway=printable(gateway, 48),
        epoch=more.pop("epoch", ""),
        seq=more.pop("seq", 0),
        digest=digest_of(cause.encode(), key.encode("utf-8", "surrogatepass")),
        at=at,
        received_at=at,
        kind=kind,
        cause=cause,
        text=printable(text),
        **more,
    )


def quarantine_row(
    gateway: str,
    raw: bytes,
    reason: str,
    detail: str,
    received_at: int,
    *,
    epoch: str = "",
    seq: int | None = None,
    meter: str = "",
    read_at: int | None = None,
) -> QuarantineRow:
    """Return refused bytes in the form of the registry's table."""
    cut = f" (the first {MAX_RAW} of {len(raw)} bytes are kept)" if len(raw) > MAX_RAW else ""
    return QuarantineRow(
        gateway=printable(gateway, 48),
        digest=digest_of(raw),
        received_at=received_at,
        reason=reason,
        detail=printable(detail, MAX_TEXT - len(cut)) + cut,
        raw=raw[:MAX_RAW],
        epoch=epoch,
        seq=seq,
        meter=printable(meter, 64),
        read_at=read_at,
    )
