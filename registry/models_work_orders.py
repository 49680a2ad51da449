"""The tables of work orders. Times are [ms UTC], volumes int64 in 10⁻⁶ of the house unit.

A work order is one row that changes; what happened to it stands in `work_order_step` and never changes. Receipts,
evidence and photos are rows of their own, so that the order stays small.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


class WorkOrder(Base):
    """派工单. place: usage point id, or "gateway:gw-1", "bus:gw-1/bus-2", "district:north" for what is not one's own.

    open_key: "<place>|<type>" while open, else NULL: one open order per place and type. version: for If-Match.
    policy: "<version>/<rule id>", "" when a person opened it. due_rule, respond_rule: "5 working days", as promised.
    escalated: bits of `api.orders.escalation.Level` that were told.
    """

    __tablename__ = "work_order"
    __table_args__ = (
        sa.UniqueConstraint("open_key"),
        sa.UniqueConstraint("external_id"),
        sa.Index("ix_work_order_state_due_at_district", "state", "due_at", "district"),
    )
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    place: Mapped[str] = mapped_column(sa.String(96), index=True)
    usage_point_id: Mapped[str | None] = mapped_column(sa.ForeignKey("usage_point.id"), index=True)
    meter: Mapped[str] = mapped_column(sa.String(64), default="")
    district: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    type: Mapped[str] = mapped_column(sa.String(32), index=True)
    priority: Mapped[str] = mapped_column(sa.String(16))
    state: Mapped[str] = mapped_column(sa.String(16))
    result: Mapped[str] = mapped_column(sa.String(16), default="")
    open_key: Mapped[str | None] = mapped_column(sa.String(140))
    opened_at: Mapped[int] = mapped_column(index=True)
    opened_by: Mapped[str] = mapped_column(sa.String(80))
    reason_en: Mapped[str] = mapped_column(sa.String(500))
    reason_zh: Mapped[str] = mapped_column(sa.String(500))
    policy: Mapped[str] = mapped_column(sa.String(96), default="")
    accepted_at: Mapped[int | None]
    respond_by: Mapped[int | None]
    respond_rule: Mapped[str] = mapped_column(sa.String(32), default="")
    due_at: Mapped[int] = mapped_column(index=True)
    due_rule: Mapped[str] = mapped_column(sa.String(32))
    provisional: Mapped[bool] = mapped_column(default=False)
    appointment_at: Mapped[int | None]
    assignee: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    visits: Mapped[int] = mapped_column(default=0)
    escalated: Mapped[int] = mapped_column(default=0)
    finished_at: Mapped[int | None] = mapped_column(index=True)
    label: Mapped[str] = mapped_column(sa.String(32), default="")
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("work_order.id"))
    external_id: Mapped[str | None] = mapped_column(sa.String(128))
    version: Mapped[int] = mapped_column(default=1)


class WorkOrderStep(Base):
    """One step of one order's life, numbered 1, 2, 3 … per order. data: what the step carried."""

    __tablename__ = "work_order_step"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("work_order.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(sa.String(80))
    deed: Mapped[str] = mapped_column(sa.String(32))
    before: Mapped[str] = mapped_column(sa.String(16))
    after: Mapped[str] = mapped_column(sa.String(16))
    note: Mapped[str] = mapped_column(sa.String(2000), default="")
    data: Mapped[dict[str, Any]]


class WorkOrderKey(Base):
    """What a caller's Idempotency-Key did once: a retry finds the order instead of doing it again.

    key: digest of caller and key. body: digest of what was asked.
    """

    __tablename__ = "work_order_key"
    key: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    body: Mapped[str] = mapped_column(sa.String(64))
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("work_order.id"))
    at: Mapped[int]


class WorkOrderFinding(Base):
    """A finding that an order answers; its evidence and its number of repeats as they were when it joined."""

    __tablename__ = "work_order_finding"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("work_order.id"), primary_key=True)
    finding_id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False, index=True)
    joined_at: Mapped[int]
    repeats: Mapped[int] = mapped_column(default=0)
    evidence: Mapped[dict[str, Any]]
    withdrawn_at: Mapped[int | None]


class Receipt(Base):
    """回执 of one visit. index_seen: {quantity: micro}; materials: [{name, count}]; amount: decimal text.

    label: what was really found: true, false, other_cause, not_looked.
    """

    __tablename__ = "receipt"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("work_order.id"), primary_key=True)
    visit: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    worker: Mapped[str] = mapped_column(sa.String(64), index=True)
    arrived_at: Mapped[int]
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    left_at: Mapped[int | None]
    result: Mapped[str] = mapped_column(sa.String(16))
    note: Mapped[str] = mapped_column(sa.String(2000), default="")
    index_seen: Mapped[dict[str, Any]]
    materials: Mapped[list[Any]] = mapped_column(sa.JSON())
    amount: Mapped[str] = mapped_column(sa.String(24), default="")
    label: Mapped[str] = mapped_column(sa.String(32), default="")
    filed_by: Mapped[str] = mapped_column(sa.String(80))
    filed_at: Mapped[int]


class Photo(Base):
    """A photo of a visit; the bytes lie here, so that a backup of the registry is complete."""

    __tablename__ = "photo"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("work_order.id"), index=True)
    visit: Mapped[int]
    media_type: Mapped[str] = mapped_column(sa.String(32))
    sha256: Mapped[str] = mapped_column(sa.String(64))
    size: Mapped[int]
    taken_by: Mapped[str] = mapped_column(sa.String(80))
    at: Mapped[int]
    data: Mapped[bytes]


class Team(Base):
    """A team or a single worker that orders go to. members: user names; districts: where it works."""

    __tablename__ = "team"
    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), default="")
    members: Mapped[list[Any]] = mapped_column(sa.JSON())
    districts: Mapped[list[Any]] = mapped_column(sa.JSON())
    enabled: Mapped[bool] = mapped_column(default=True)


class Absence(Base):
    """A worker or a team is away: nothing is dispatched to it, what it has is to be reassigned."""

    __tablename__ = "absence"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    assignee: Mapped[str] = mapped_column(sa.String(64), index=True)
    begins_at: Mapped[int]
    ends_at: Mapped[int]
    note: Mapped[str] = mapped_column(sa.String(500), default="")


class FollowUp(Base):
    """回访: a call 3 to 5 days after completion. asked_at: None while it waits."""

    __tablename__ = "follow_up"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("work_order.id"), primary_key=True)
    stratum: Mapped[str] = mapped_column(sa.String(120))
    begins_at: Mapped[int] = mapped_column(index=True)
    ends_at: Mapped[int]
    asked_at: Mapped[int | None]
    asked_by: Mapped[str] = mapped_column(sa.String(80), default="")
    satisfied: Mapped[bool | None]
    note: Mapped[str] = mapped_column(sa.String(2000), default="")


class InspectionPlan(Base):
    """A periodic safety inspection 安检 planned for a usage point. day: local day on which its order is opened."""

    __tablename__ = "inspection_plan"
    __table_args__ = (sa.UniqueConstraint("usage_point_id", "year"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.ForeignKey("usage_point.id"))
    district: Mapped[str] = mapped_column(sa.String(64), default="")
    year: Mapped[int]
    day: Mapped[str] = mapped_column(sa.String(10), index=True)
    order_id: Mapped[int | None] = mapped_column(sa.ForeignKey("work_order.id"))
