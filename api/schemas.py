"""The words of the API's answers: natural units as decimal strings, times as RFC 3339 in UTC."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

At = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-03-01T00:00:05.000Z"])]
NextCursor = Annotated[
    str | None, Field(description="Hand this back as `cursor` to get the next page; null on the last page.")
]


class Answer(BaseModel):
    """Base of every answer."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Amount(Answer):
    """An exact value in its natural unit."""

    value: str = Field(description="Decimal string; never rounded.", examples=["1234.567"])
    unit: str = Field(examples=["m3"])


class ReadingOut(Answer):
    """One meter at one time."""

    meter: str = Field(examples=["G-0001"])
    read_at: At = Field(description="When the value was true.")
    meter_time: At | None = Field(description="What the meter's own clock said; null when it has none.")
    received_at: At | None = Field(description="When the reading arrived.")
    values: dict[str, Amount] = Field(
        description="By quantity; a quantity that was not read is absent, never 0.",
        examples=[{"volume_standard": {"value": "1234.567", "unit": "m3"}}],
    )
    quality: str = Field(description="valid, suspect, estimated, edited or manual.", examples=["valid"])
    reason: str = Field(description="Why it is not simply valid; empty when it is.", examples=[""])
    source: str = Field(description="poll, push, manual, import or estimate.", examples=["poll"])
    flags: list[str] = Field(description="States the meter itself reports.", examples=[["low_battery"]])


class LatestOut(ReadingOut):
    """The newest reading of one meter."""

    age_s: int = Field(description="Seconds since read_at.", examples=[4])


class LatestPage(Answer):
    """Newest readings, one per meter that was ever read, by meter id."""

    items: list[LatestOut]
    next_cursor: NextCursor


class ReadingPage(Answer):
    """Readings of one meter, oldest first."""

    items: list[ReadingOut]
    next_cursor: NextCursor


class ClosingOut(Answer):
    """The last index 表底数 of one local day."""

    day: str = Field(examples=["2026-03-01"])
    quantity: str = Field(examples=["volume_standard"])
    index: Amount
    read_at: At
    quality: str = Field(examples=["valid"])


class ClosingPage(Answer):
    """Daily closing indexes of one meter, oldest first."""

    items: list[ClosingOut]
    next_cursor: NextCursor


class MeterSummary(Answer):
    """One line of the list of meters."""

    id: str = Field(examples=["G-0001"])
    serial: str
    medium: str = Field(examples=["gas"])
    profile: str
    quantity: str = Field(description="The quantity that is billed.", examples=["volume_standard"])
    state: str = Field(examples=["in_service"])
    gateway: str | None = Field(examples=["gw-1"])
    interval_s: int | None = Field(description="How often it is read [s].")
    usage_point: str | None
    district: str
    last_read_at: At | None = Field(description="read_at of the newest reading; null when it was never read.")
    last_quality: str | None


class MeterPage(Answer):
    """Meters by id."""

    items: list[MeterSummary]
    next_cursor: NextCursor


class UsagePointOut(Answer):
    """用气点/户: the place that is served and billed."""

    id: str
    medium: str
    customer_class: str
    district: str
    tz: str
    address: str
    account_number: str


class InstallationOut(Answer):
    """A meter at a usage point from one date to another."""

    usage_point: UsagePointOut
    installed_at: At | None = Field(description="null when it is not known.")
    removed_at: At | None
    start_index: Amount | None
    final_index: Amount | None


class BusOut(Answer):
    """The line on which a meter is reached."""

    name: str
    kind: str
    host: str
    port: int | None


class MeterGateway(Answer):
    """The gateway that reads a meter."""

    id: str
    name: str
    online: bool
    bus: BusOut | None
    address: str = Field(description="The meter's number on its bus.")


class MeterOut(Answer):
    """Everything known about one meter."""

    id: str = Field(examples=["G-0001"])
    serial: str
    medium: str = Field(examples=["gas"])
    profile: str
    quantity: str = Field(description="The quantity that is billed.", examples=["volume_standard"])
    state: str = Field(examples=["in_service"])
    index_digits: int | None
    resolution: Amount | None
    qmax: Amount | None
    inlet: str
    commissioned_at: At | None
    interval_s: int | None
    installations: list[InstallationOut] = Field(description="Newest first; the first one without removed_at is now.")
    gateway: MeterGateway | None
    latest: LatestOut | None


class Range(Answer):
    """Inclusive range of row numbers."""

    first: int
    last: int


class EpochOut(Answer):
    """The delivery ledger of one outbox file (epoch): what the gateway made, and what became of it."""

    epoch: str
    produced: int = Field(description="Highest row number the outbox ever gave out.")
    acknowledged_upto: int = Field(description="Everything up to here is committed, except `missing`.")
    committed: int = Field(description="Rows that are committed: in the store, in quarantine or kept as events.")
    stored: int
    duplicates: int = Field(description="Rows that came again and were already there.")
    quarantined: int
    events: int
    gone: int = Field(description="Rows that the gateway no longer holds and that never arrived.")
    waiting: int = Field(description="Rows made and not yet committed, as ingest last heard.")
    missing: list[Range] = Field(description="Holes below acknowledged_upto that were asked for again (first 100).")
    oldest_held: int = Field(description="Lowest row number that the gateway still holds.")
    last_message_at: At | None


class GatewaySummary(Answer):
    """One gateway, its sums over all epochs, and how it is."""

    id: str = Field(examples=["gw-1"])
    name: str
    district: str
    registered: bool = Field(description="False: it sends, but the registry does not know it.")
    online: bool = Field(description="It is connected, and was heard lately.")
    status: str = Field(description="ok, silent, offline, outbox_full, outbox_damaged or never_seen.")
    status_reason: str
    meters: int = Field(description="Meters that the registry gives it.")
    produced: int
    committed: int
    stored: int
    duplicates: int
    quarantined: int
    events: int
    gone: int
    missing: int = Field(description="Rows in all holes.")
    waiting: int = Field(description="Rows not yet acknowledged, as the gateway last said.")
    oldest_waiting_at: At | None = Field(description="Time of the oldest waiting row.")
    last_message_at: At | None
    last_health_at: At | None


class GatewayOut(GatewaySummary):
    """One gateway with its ledger per epoch."""

    epochs: list[EpochOut]
    health: dict[str, object] = Field(description="What the gateway last said of itself, unchanged.")


class GatewayPage(Answer):
    """Gateways by id."""

    items: list[GatewaySummary]
    next_cursor: NextCursor


class EventOut(Answer):
    """Something that happened and is not a value: a failed read is an event, never a 0."""

    id: int
    gateway: str
    kind: str = Field(examples=["read_failed"])
    at: At
    received_at: At
    meter: str
    cause: str = Field(examples=["timeout"])
    count: int = Field(description="How often since the last such event.")
    text: str


class EventPage(Answer):
    """Events, newest arrival first."""

    items: list[EventOut]
    next_cursor: NextCursor


class RawOut(Answer):
    """The bytes as they came."""

    size: int = Field(description="Bytes in all.")
    hex: str = Field(description="The first bytes as hex; `truncated` tells whether there are more.")
    base64: str = Field(description="The same bytes as base64.")
    text: str | None = Field(description="The same bytes as text, when they are printable UTF-8.")
    truncated: bool


class QuarantineOut(Answer):
    """A row or message that ingest refused."""

    id: int
    gateway: str
    epoch: str
    seq: int | None
    meter: str
    read_at: At | None
    received_at: At
    reason: str = Field(examples=["unknown_meter"])
    detail: str
    digest: str
    raw: RawOut


class QuarantinePage(Answer):
    """Refused rows and messages, newest first."""

    items: list[QuarantineOut]
    next_cursor: NextCursor


class Check(Answer):
    """One dependency."""

    name: str = Field(examples=["registry"])
    status: str = Field(description="ok, degraded or failed.", examples=["ok"])
    reason: str = Field(description="One sentence; empty when ok.")


class Readiness(Answer):
    """Ready when no dependency failed."""

    status: str = Field(description="ok, degraded or failed: the worst of the checks.", examples=["ok"])
    checks: list[Check]


class Alive(Answer):
    """The process answers."""

    status: str = "ok"
