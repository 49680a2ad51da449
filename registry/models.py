"""The tables. Times are [ms UTC], counters are int64 in 10⁻⁶ of the house unit, JSON only where nobody queries.

Books (the utility's people change these): usage_point, meter, installation, gateway, bus.
Ledgers (only ingest writes these): latest, closing, event, quarantine, position, gateway_status, counter, state,
part_lease, lease_worker. Worked out by the API for its pages: hourly_flow.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_BREAK = "\n"  # stands between the fields of a search text; nobody can type it into a search

Big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Base(DeclarativeBase):
    """All tables of the registry."""

    type_annotation_map = {int: sa.BigInteger().with_variant(sa.Integer(), "sqlite"), dict[str, Any]: sa.JSON()}  # noqa: RUF012 (SQLAlchemy's form)


class UsagePoint(Base):
    """用气点/户: the place that is served and billed."""

    __tablename__ = "usage_point"
    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    medium: Mapped[str] = mapped_column(sa.String(16))
    customer_class: Mapped[str] = mapped_column(sa.String(32), default="")
    district: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    tz: Mapped[str] = mapped_column(sa.String(64), default="Asia/Shanghai")
    address: Mapped[str] = mapped_column(sa.String(300), default="")
    account_number: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    search: Mapped[str] = mapped_column(
        sa.Text(), sa.Computed(f"lower(id || '{_BREAK}' || address || '{_BREAK}' || account_number)", persisted=True)
    )
    """What the search looks through: worked out by the database at each write."""


class Gateway(Base):
    """An edge program that reads meters."""

    __tablename__ = "gateway"
    id: Mapped[str] = mapped_column(sa.String(48), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), default="")
    district: Mapped[str] = mapped_column(sa.String(64), default="")


class Bus(Base):
    """One line at a gateway: a Modbus TCP host, a serial port."""

    __tablename__ = "bus"
    __table_args__ = (sa.UniqueConstraint("gateway_id", "name"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    gateway_id: Mapped[str] = mapped_column(sa.ForeignKey("gateway.id"))
    name: Mapped[str] = mapped_column(sa.String(48))
    kind: Mapped[str] = mapped_column(sa.String(32))
    host: Mapped[str] = mapped_column(sa.String(255), default="")
    port: Mapped[int | None]


class Meter(Base):
    """One device. `address` is its number on the bus; `quantity` the one that is billed."""

    __tablename__ = "meter"
    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    serial: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    medium: Mapped[str] = mapped_column(sa.String(16))
    profile: Mapped[str] = mapped_column(sa.String(64), default="")
    quantity: Mapped[str] = mapped_column(sa.String(32))
    index_digits: Mapped[int | None]
    resolution: Mapped[int | None]
    qmax: Mapped[int | None]
    inlet: Mapped[str] = mapped_column(sa.String(8), default="")
    state: Mapped[str] = mapped_column(sa.String(16), default="installed")
    commissioned_at: Mapped[int | None]
    gateway_id: Mapped[str | None] = mapped_column(sa.ForeignKey("gateway.id"), index=True)
    bus_id: Mapped[int | None] = mapped_column(sa.ForeignKey("bus.id"))
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    interval_s: Mapped[int | None]
    search: Mapped[str] = mapped_column(sa.Text(), sa.Computed(f"lower(id || '{_BREAK}' || serial)", persisted=True))


class Installation(Base):
    """A meter at a usage point from one date to another, with the index at both ends. kind: normal, temporary."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    meter_id: Mapped[str] = mapped_column(sa.ForeignKey("meter.id"), index=True)
    usage_point_id: Mapped[str] = mapped_column(sa.ForeignKey("usage_point.id"), index=True)
    installed_at: Mapped[int]
    removed_at: Mapped[int | None]
    start_index: Mapped[int | None]
    final_index: Mapped[int | None]
    kind: Mapped[str] = mapped_column(sa.String(16), default="normal", server_default="normal")


class Latest(Base):
    """The newest reading of each meter; an old value never becomes latest."""

    __tablename__ = "latest"
    meter: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    read_at: Mapped[int]
    received_at: Mapped[int]
    meter_time: Mapped[int | None]
    quality: Mapped[str] = mapped_column(sa.String(16))
    reason: Mapped[str] = mapped_column(sa.String(64), default="")
    source: Mapped[str] = mapped_column(sa.String(16))
    flags: Mapped[int] = mapped_column(default=0)
    values: Mapped[dict[str, Any]]


class Closing(Base):
    """The last index of each meter in each local day. In SQLite in the order of its key, as billing reads it."""

    __tablename__ = "closing"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 (SQLAlchemy's form)
    meter: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    day: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    quantity: Mapped[str] = mapped_column(sa.String(32))
    read_at: Mapped[int]
    index: Mapped[int]
    quality: Mapped[str] = mapped_column(sa.String(16))


class EventRecord(Base):
    """Failed reads, security events and whatever else a gateway or ingest noticed."""

    __tablename__ = "event"
    __table_args__ = (sa.UniqueConstraint("gateway", "epoch", "seq", "digest"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    gateway: Mapped[str] = mapped_column(sa.String(48), index=True)
    epoch: Mapped[str] = mapped_column(sa.String(32), default="")
    seq: Mapped[int]
    digest: Mapped[str] = mapped_column(sa.String(32))
    at: Mapped[int] = mapped_column(index=True)
    received_at: Mapped[int]
    kind: Mapped[str] = mapped_column(sa.String(32), index=True)
    meter: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    cause: Mapped[str] = mapped_column(sa.String(48), default="")
    count: Mapped[int] = mapped_column(default=1)
    text: Mapped[str] = mapped_column(sa.String(500), default="")


class Quarantine(Base):
    """Rows and messages that ingest refused, with their raw bytes; nothing is thrown away."""

    __tablename__ = "quarantine"
    __table_args__ = (sa.UniqueConstraint("gateway", "digest"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    gateway: Mapped[str] = mapped_column(sa.String(48), index=True)
    epoch: Mapped[str] = mapped_column(sa.String(32), default="")
    seq: Mapped[int | None]
    meter: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    read_at: Mapped[int | None]
    received_at: Mapped[int] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(sa.String(48), index=True)
    detail: Mapped[str] = mapped_column(sa.String(500), default="")
    raw: Mapped[bytes]
    digest: Mapped[str] = mapped_column(sa.String(64))


class PositionRecord(Base):
    """The delivery ledger: what of one gateway's outbox (one epoch) is committed. spans: [[from, to], …]."""

    __tablename__ = "position"
    gateway: Mapped[str] = mapped_column(sa.String(48), primary_key=True)
    epoch: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    part: Mapped[int]
    spans: Mapped[str] = mapped_column(sa.Text())
    oldest: Mapped[int]
    produced: Mapped[int]
    stored: Mapped[int]
    duplicates: Mapped[int]
    quarantined: Mapped[int]
    events: Mapped[int]
    gone: Mapped[int] = mapped_column(default=0)
    last_up_at: Mapped[int]


class GatewayStatus(Base):
    """What a gateway last said of itself: birth, last will, health."""

    __tablename__ = "gateway_status"
    gateway: Mapped[str] = mapped_column(sa.String(48), primary_key=True)
    online: Mapped[bool]
    state_at: Mapped[int | None]
    health_at: Mapped[int | None]
    health: Mapped[dict[str, Any]]


class Counter(Base):
    """Metrics that a service without a page of its own wants shown by the API."""

    __tablename__ = "counter"
    service: Mapped[str] = mapped_column(sa.String(48), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(96), primary_key=True)
    labels: Mapped[str] = mapped_column(sa.String(200), primary_key=True, default="")
    value: Mapped[float]
    updated_at: Mapped[int]


class PartLease(Base):
    """Which ingest worker works on a part of the city. token: rises with every change of hands (fencing).

    expires_at: [ms UTC]. floor: [ms UTC] recovery floor of the part's meters, see `ingest.pipeline`.
    """

    __tablename__ = "part_lease"
    part: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(sa.String(48))
    token: Mapped[int]
    expires_at: Mapped[int]
    floor: Mapped[int]


class LeaseWorker(Base):
    """An ingest worker that takes part in the sharing. expires_at: [ms UTC] until when it counts as alive."""

    __tablename__ = "lease_worker"
    name: Mapped[str] = mapped_column(sa.String(48), primary_key=True)
    expires_at: Mapped[int]


class State(Base):
    """Small facts that ingest must remember, such as the recovery floor."""

    __tablename__ = "state"
    key: Mapped[str] = mapped_column(sa.String(96), primary_key=True)
    value: Mapped[str] = mapped_column(sa.Text())


class HourlyFlow(Base):
    """What the meters of a district let pass in one hour, beside the same hour a week before.

    hour: [ms UTC] its start. micro: of the `known` meters out of `due` that should be read in every hour.
    same: meters that are known in both hours; same_now, same_then: what these passed in each. worked_at: [ms UTC].
    """

    __tablename__ = "hourly_flow"
    hour: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    district: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    medium: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    quantity: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    micro: Mapped[int]
    known: Mapped[int]
    due: Mapped[int]
    same: Mapped[int]
    same_now: Mapped[int]
    same_then: Mapped[int]
    worked_at: Mapped[int]
