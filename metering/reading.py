"""`Reading` and `Event`: the two kinds of rows that travel from a gateway to the store.

One `Reading` is one meter at one time. Figures in readings/s count these. Neither type checks plausibility
(`metering.admission` does); they only fix names and types, so that the wire form and the inside form are one.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from metering.quantities import INT64_MAX, Quantity

Micro = Annotated[int, msgspec.Meta(ge=-INT64_MAX, le=INT64_MAX)]
"""[10⁻⁶ of the house unit], int64."""

TimeMs = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
"""[ms since 1970, UTC], up to the year 9999; `admission` narrows it to what is plausible."""

MeterId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
GatewayId = Annotated[str, msgspec.Meta(min_length=1, max_length=48, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

Quality = Literal["valid", "suspect", "estimated", "edited", "manual"]
Source = Literal["poll", "push", "manual", "import", "estimate"]

QUALITIES: Final[tuple[Quality, ...]] = ("valid", "suspect", "estimated", "edited", "manual")
SOURCES: Final[tuple[Source, ...]] = ("poll", "push", "manual", "import", "estimate")


class Reading(
    msgspec.Struct, tag_field="type", tag="reading", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """One meter at one time.

    read_at: [ms UTC] when the value was true. meter_time: [ms UTC] what the meter's clock said.
    received_at: [ms UTC] arrival at ingest, which stamps it in place; never on the wire.
    values: quantity -> [10⁻⁶ of the house unit]. quality and reason: why a value is not simply valid.
    flags: bit field of the profile (valve, magnet, cover, battery, clock), see `Flag`.
    """

    meter: MeterId
    read_at: TimeMs
    values: dict[Quantity, Micro]
    meter_time: TimeMs | None = None
    received_at: TimeMs | None = None
    quality: Quality = "valid"
    reason: Annotated[str, msgspec.Meta(max_length=64)] = ""
    source: Source = "poll"
    flags: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0


class Flag:
    """Bits of `Reading.flags`: states that the meter itself reports."""

    VALVE_CLOSED: Final = 1
    MAGNET: Final = 2
    COVER: Final = 4
    LOW_BATTERY: Final = 8
    CLOCK: Final = 16
    ALARM: Final = 32
    FIRST_SINCE_GAP: Final = 64


EventKind = Literal[
    "read_failed",
    "read_recovered",
    "counter_gap",
    "command_result",
    "security",
    "plan",
    "outbox_damaged",
    "outbox_full",
    "clock_step",
    "gateway_started",
]


class Event(msgspec.Struct, tag_field="type", tag="event", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Something that happened at the edge and is not a value: a failed read is an event, never a 0.

    at: [ms UTC]. cause: a short code (`timeout`, `exception_02`, `connect`, `checksum`, …). count: how often since
    the last such row. text: one sentence for a person.
    """

    kind: EventKind
    at: TimeMs
    meter: Annotated[str, msgspec.Meta(max_length=64)] = ""
    cause: Annotated[str, msgspec.Meta(max_length=48)] = ""
    count: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 1
    text: Annotated[str, msgspec.Meta(max_length=500)] = ""


Row = Reading | Event
