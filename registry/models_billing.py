"""The tables of billing. Times are [ms UTC], volumes int64 in 10⁻⁶ of the house unit, periods are texts YYYY-MM.

Rules: billing_calendar, billing_extra_day, calorific_value. Results: billing_total with its lines, billing_close.
People: billing_decision, billing_delta with its approvals, reading_correction. gateway_outage is written by ingest.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


class BillingCalendar(Base):
    """When meters of a customer class are read. customer_class, medium: "" stands for any.

    first_day, last_day: equal for a fixed day. every: every n-th month, counted so that `month` is one of them.
    from_period, to_period: first and last period that it counts for; "" for no end.
    """

    __tablename__ = "billing_calendar"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    customer_class: Mapped[str] = mapped_column(sa.String(32))
    medium: Mapped[str] = mapped_column(sa.String(16))
    first_day: Mapped[int]
    last_day: Mapped[int]
    every: Mapped[int]
    month: Mapped[int]
    from_period: Mapped[str] = mapped_column(sa.String(7))
    to_period: Mapped[str] = mapped_column(sa.String(7))
    created_by: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[int]
    version: Mapped[int]


class BillingExtraDay(Base):
    """An extra reading day for a price change: a line more inside its period. day: YYYY-MM-DD."""

    __tablename__ = "billing_extra_day"
    __table_args__ = (sa.UniqueConstraint("customer_class", "medium", "day"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    customer_class: Mapped[str] = mapped_column(sa.String(32))
    medium: Mapped[str] = mapped_column(sa.String(16))
    day: Mapped[str] = mapped_column(sa.String(10))
    reason: Mapped[str] = mapped_column(sa.String(200))
    created_by: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[int]


class CalorificValue(Base):
    """Energy of a cubic metre from a local day on, in a district ("" for all). value: [10⁻⁶ kWh/m³]."""

    __tablename__ = "calorific_value"
    __table_args__ = (sa.UniqueConstraint("district", "from_day"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    district: Mapped[str] = mapped_column(sa.String(64))
    from_day: Mapped[str] = mapped_column(sa.String(10))
    value: Mapped[int]
    created_by: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[int]


class BillingTotal(Base):
    """One usage point's total of one period, or why there is none. close_id: set once it is frozen.

    version: rises with every change of any total, for pullers that resume. digest: of the frozen form.
    The index of period and state is the clerk's list: it finds what comes next among 100,000 totals in a millisecond.
    """

    __tablename__ = "billing_total"
    __table_args__ = (
        sa.UniqueConstraint("usage_point_id", "period"),
        sa.Index("ix_billing_total_worklist", "period", "state", "usage_point_id"),
    )
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.String(64))
    period: Mapped[str] = mapped_column(sa.String(7))
    account_number: Mapped[str] = mapped_column(sa.String(64))
    customer_class: Mapped[str] = mapped_column(sa.String(32))
    medium: Mapped[str] = mapped_column(sa.String(16))
    district: Mapped[str] = mapped_column(sa.String(64), index=True)
    start_at: Mapped[int]
    end_at: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(16))
    cause: Mapped[str] = mapped_column(sa.String(48))
    detail: Mapped[str] = mapped_column(sa.String(500))
    shown: Mapped[str] = mapped_column(sa.String(48))
    quantity: Mapped[str] = mapped_column(sa.String(32))
    consumption: Mapped[int | None]
    forward: Mapped[int | None]
    reverse: Mapped[int | None]
    volume_actual: Mapped[int | None]
    volume_standard: Mapped[int | None]
    energy: Mapped[int | None]
    year_to_date: Mapped[int | None]
    opening_index: Mapped[int | None]
    opening_at: Mapped[int | None]
    opening_quality: Mapped[str] = mapped_column(sa.String(16))
    closing_index: Mapped[int | None]
    closing_at: Mapped[int | None]
    closing_quality: Mapped[str] = mapped_column(sa.String(16))
    edited: Mapped[bool]
    method: Mapped[str] = mapped_column(sa.String(32))
    computed_at: Mapped[int]
    version: Mapped[int] = mapped_column(index=True)
    close_id: Mapped[int | None] = mapped_column(sa.ForeignKey("billing_close.id"), index=True)
    digest: Mapped[str] = mapped_column(sa.String(64))


class BillingLine(Base):
    """A part of a total: one meter between two indexes. kind: meter, exchange, extra_day, customer."""

    __tablename__ = "billing_line"
    usage_point_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    period: Mapped[str] = mapped_column(sa.String(7), primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(sa.String(16))
    meter_id: Mapped[str] = mapped_column(sa.String(64))
    customer: Mapped[str] = mapped_column(sa.String(64))
    opening_index: Mapped[int]
    opening_at: Mapped[int]
    opening_quality: Mapped[str] = mapped_column(sa.String(16))
    closing_index: Mapped[int]
    closing_at: Mapped[int]
    closing_quality: Mapped[str] = mapped_column(sa.String(16))
    rollovers: Mapped[int]
    consumption: Mapped[int]
    reverse: Mapped[int]
    energy: Mapped[int | None]


class BillingClose(Base):
    """A closed period of a scope: the totals with this close_id, whose digests in order give `hash`."""

    __tablename__ = "billing_close"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    period: Mapped[str] = mapped_column(sa.String(7), index=True)
    customer_class: Mapped[str] = mapped_column(sa.String(32))
    medium: Mapped[str] = mapped_column(sa.String(16))
    district: Mapped[str] = mapped_column(sa.String(64))
    closed_at: Mapped[int]
    closed_by: Mapped[str] = mapped_column(sa.String(80))
    note: Mapped[str] = mapped_column(sa.String(2000))
    totals: Mapped[int]
    open_missing: Mapped[int]
    open_doubtful: Mapped[int]
    hash: Mapped[str] = mapped_column(sa.String(64))


class BillingDecision(Base):
    """What a clerk decided of a total: accept (this consumption and no other), or reread."""

    __tablename__ = "billing_decision"
    __table_args__ = (sa.Index("ix_billing_decision_place", "usage_point_id", "period"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.String(64))
    period: Mapped[str] = mapped_column(sa.String(7))
    kind: Mapped[str] = mapped_column(sa.String(16))
    consumption: Mapped[int | None]
    cause: Mapped[str] = mapped_column(sa.String(48))
    note: Mapped[str] = mapped_column(sa.String(500))
    actor: Mapped[str] = mapped_column(sa.String(80))
    at: Mapped[int]


class BillingDelta(Base):
    """A change of a closed total, billed in the next open period. kind: late_data, adjustment.

    before, after: consumption, None when there was or is no total. needs: capacities whose approval it needs.
    state: proposed, approved, rejected, replaced. in_period: period whose bill carries it.
    """

    __tablename__ = "billing_delta"
    __table_args__ = (sa.Index("ix_billing_delta_place", "usage_point_id", "period"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.String(64))
    period: Mapped[str] = mapped_column(sa.String(7))
    in_period: Mapped[str] = mapped_column(sa.String(7), index=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    quantity: Mapped[str] = mapped_column(sa.String(32))
    before: Mapped[int | None]
    after: Mapped[int | None]
    amount: Mapped[int]
    cause: Mapped[str] = mapped_column(sa.String(48))
    account: Mapped[str] = mapped_column(sa.String(2000))
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    proposed_by: Mapped[str] = mapped_column(sa.String(80))
    proposed_at: Mapped[int]
    needs: Mapped[str] = mapped_column(sa.String(200))
    version: Mapped[int]


class BillingApproval(Base):
    """One capacity's word on a delta; a person gives one word only. word: approved, rejected."""

    __tablename__ = "billing_approval"
    __table_args__ = (sa.UniqueConstraint("delta_id", "capacity"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    delta_id: Mapped[int] = mapped_column(sa.ForeignKey("billing_delta.id"))
    capacity: Mapped[str] = mapped_column(sa.String(32))
    word: Mapped[str] = mapped_column(sa.String(16))
    actor: Mapped[str] = mapped_column(sa.String(80))
    note: Mapped[str] = mapped_column(sa.String(2000))
    at: Mapped[int]


class ReadingCorrection(Base):
    """A stored index that is to be taken as another one, or as not read (becomes None). The store keeps the old one.

    withdrawn_at: [ms UTC] since when it counts no more.
    """

    __tablename__ = "reading_correction"
    __table_args__ = (sa.Index("ix_reading_correction_key", "meter_id", "read_at"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    meter_id: Mapped[str] = mapped_column(sa.String(64))
    read_at: Mapped[int]
    quantity: Mapped[str] = mapped_column(sa.String(32))
    was: Mapped[int]
    becomes: Mapped[int | None]
    reason: Mapped[str] = mapped_column(sa.String(500))
    actor: Mapped[str] = mapped_column(sa.String(80))
    at: Mapped[int]
    withdrawn_at: Mapped[int | None]


class BillingKey(Base):
    """What a caller's Idempotency-Key did once: a retry gets the same answer instead of doing it again.

    key: digest of caller and key. body: digest of what was asked. answer: JSON.
    """

    __tablename__ = "billing_key"
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    body: Mapped[str] = mapped_column(sa.String(64))
    answer: Mapped[str] = mapped_column(sa.Text())
    at: Mapped[int]


class GatewayOutage(Base):
    """A time in which a gateway was away, as the broker told ingest: from its last will to its next birth."""

    __tablename__ = "gateway_outage"
    gateway: Mapped[str] = mapped_column(sa.String(48), primary_key=True)
    from_at: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    to_at: Mapped[int | None]
