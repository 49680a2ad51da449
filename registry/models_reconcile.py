"""The tables of reconciliation. Times are [ms UTC], volumes int64 in 10⁻⁶ of the house unit.

purchase, scada_total, supply_link: facts of files; a row counts while its batch is posted and not reversed.
reconciliation: what a comparison of a period came to, one row per kind, usage point and period.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


class Purchase(Base):
    """Volume that a customer bought for a prepaid meter 充值. reference: number of the receipt, "" when none."""

    __tablename__ = "purchase"
    __table_args__ = (sa.Index("ix_purchase_usage_point_id_at", "usage_point_id", "at"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.String(64))
    at: Mapped[int]
    volume: Mapped[int]
    reference: Mapped[str] = mapped_column(sa.String(64))
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("import_batch.id"), index=True)
    line: Mapped[int]


class ScadaTotal(Base):
    """What a SCADA system counted at a customer from one time to another."""

    __tablename__ = "scada_total"
    __table_args__ = (sa.Index("ix_scada_total_usage_point_id_from_at", "usage_point_id", "from_at"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.String(64))
    from_at: Mapped[int]
    to_at: Mapped[int]
    volume: Mapped[int]
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("import_batch.id"), index=True)
    line: Mapped[int]


class SupplyLink(Base):
    """The meter at `parent_id` supplies the usage point `child_id` from `from_at` on, until the child's next link.

    parent_id "": nobody supplies it any more. parent_class, child_class: of accuracy, "" for the medium's usual one.
    """

    __tablename__ = "supply_link"
    __table_args__ = (
        sa.Index("ix_supply_link_parent_id", "parent_id"),
        sa.Index("ix_supply_link_child_id", "child_id"),
    )
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    parent_id: Mapped[str] = mapped_column(sa.String(64))
    child_id: Mapped[str] = mapped_column(sa.String(64))
    from_at: Mapped[int]
    parent_class: Mapped[str] = mapped_column(sa.String(8))
    child_class: Mapped[str] = mapped_column(sa.String(8))
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("import_batch.id"), index=True)
    line: Mapped[int]


class Reconciliation(Base):
    """One comparison. kind: prepaid, scada, parent. verdict: of `api.billing.reconcile.VERDICTS`.

    difference: [micro] what the two sides differ by, None when it is not knowable. facts: every number behind it.
    order_id: work order that it asked for.
    """

    __tablename__ = "reconciliation"
    __table_args__ = (sa.UniqueConstraint("kind", "usage_point_id", "period"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    usage_point_id: Mapped[str] = mapped_column(sa.String(64))
    period: Mapped[str] = mapped_column(sa.String(7), index=True)
    district: Mapped[str] = mapped_column(sa.String(64))
    verdict: Mapped[str] = mapped_column(sa.String(16))
    cause: Mapped[str] = mapped_column(sa.String(48))
    difference: Mapped[int | None]
    facts: Mapped[dict[str, Any]]
    computed_at: Mapped[int]
    order_id: Mapped[int | None]
