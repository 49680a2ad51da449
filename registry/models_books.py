"""The tables of the books beside `registry.models`. Times are [ms UTC], volumes int64 in 10⁻⁶ of the house unit.

book_entry: every change to installations, states and customers, as it was recorded; rows are never changed.
occupancy, classification: which account and which class a usage point belongs to, from when to when.
validation_rule: versions of the rules that readings are judged by. office_row: readings that a person or a file
brought, on their way to the store. import_batch, import_row: a file that was looked at, and what became of it.
quarantine_decision: what a person decided on a quarantined row, which itself stays as it came.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


class BookEntry(Base):
    """One change to the books. undoes: the entry that this one strikes out. effects: what was before and after."""

    __tablename__ = "book_entry"
    __table_args__ = (
        sa.Index("ix_book_entry_usage_point_id_id", "usage_point_id", "id"),
        {"sqlite_autoincrement": True},
    )
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(sa.String(24))
    usage_point_id: Mapped[str] = mapped_column(sa.String(64), default="")
    meter_id: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    at: Mapped[int]
    recorded_at: Mapped[int]
    recorded_by: Mapped[str] = mapped_column(sa.String(80))
    note: Mapped[str] = mapped_column(sa.String(500), default="")
    facts: Mapped[dict[str, Any]]
    effects: Mapped[str] = mapped_column(sa.Text())
    batch_id: Mapped[int | None] = mapped_column(index=True)
    undoes: Mapped[int | None] = mapped_column(sa.ForeignKey("book_entry.id"), unique=True)


class Occupancy(Base):
    """A customer at a usage point. indexes: meter -> index at that moment, as a person read it."""

    __tablename__ = "occupancy"
    __table_args__ = (sa.Index("ix_occupancy_usage_point_id_from_at", "usage_point_id", "from_at"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.ForeignKey("usage_point.id"))
    account_number: Mapped[str] = mapped_column(sa.String(64), index=True)
    from_at: Mapped[int]
    to_at: Mapped[int | None]
    start_indexes: Mapped[dict[str, Any]]
    final_indexes: Mapped[dict[str, Any]]


class Classification(Base):
    """The class of a usage point from one moment to another; without any, `usage_point` holds it for ever."""

    __tablename__ = "classification"
    __table_args__ = (sa.Index("ix_classification_usage_point_id_from_at", "usage_point_id", "from_at"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    usage_point_id: Mapped[str] = mapped_column(sa.ForeignKey("usage_point.id"))
    customer_class: Mapped[str] = mapped_column(sa.String(32))
    from_at: Mapped[int]
    to_at: Mapped[int | None]


class ValidationRule(Base):
    """A version of a rule of validation, for readings from `valid_from` on. limits: its numbers [s]."""

    __tablename__ = "validation_rule"
    __table_args__ = (sa.UniqueConstraint("rule", "version"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    rule: Mapped[str] = mapped_column(sa.String(32))
    version: Mapped[int]
    valid_from: Mapped[int]
    active: Mapped[bool]
    limits: Mapped[dict[str, Any]]
    reason: Mapped[str] = mapped_column(sa.String(500))
    author: Mapped[str] = mapped_column(sa.String(80))
    made_at: Mapped[int]


class OfficeRow(Base):
    """One manual, imported or adopted reading. state: 0 waits, 1 in the office's outbox, 2 acknowledged by ingest.

    epoch, seq: its number in the outbox. quarantine_id: the row that was adopted. person: who read or entered it.
    """

    __tablename__ = "office_row"
    __table_args__ = (sa.Index("ix_office_row_state_id", "state", "id"), {"sqlite_autoincrement": True})
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    meter: Mapped[str] = mapped_column(sa.String(64), index=True)
    read_at: Mapped[int]
    values: Mapped[dict[str, Any]]
    source: Mapped[str] = mapped_column(sa.String(16))
    quality: Mapped[str] = mapped_column(sa.String(16))
    reason: Mapped[str] = mapped_column(sa.String(64), default="")
    person: Mapped[str] = mapped_column(sa.String(80))
    note: Mapped[str] = mapped_column(sa.String(500), default="")
    batch_id: Mapped[int | None] = mapped_column(index=True)
    quarantine_id: Mapped[int | None]
    posted_at: Mapped[int]
    posted_by: Mapped[str] = mapped_column(sa.String(80))
    state: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[str] = mapped_column(sa.String(32), default="")
    seq: Mapped[int | None]
    acknowledged_at: Mapped[int | None]


class ImportBatch(Base):
    """A file of readings, exchanges, purchases, SCADA totals or supply links. summary: counts.

    state: previewed, posted, reversed, dropped.
    """

    __tablename__ = "import_batch"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 (SQLAlchemy's form)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    file: Mapped[str] = mapped_column(sa.String(255))
    digest: Mapped[str] = mapped_column(sa.String(64), index=True)
    state: Mapped[str] = mapped_column(sa.String(16))
    made_at: Mapped[int]
    made_by: Mapped[str] = mapped_column(sa.String(80))
    decided_at: Mapped[int | None]
    decided_by: Mapped[str] = mapped_column(sa.String(80), default="")
    summary: Mapped[dict[str, Any]]


class ImportRow(Base):
    """One line of a previewed file. verdict: ok, doubt (a person must look), reread (sent back), bad (no use)."""

    __tablename__ = "import_row"
    __table_args__ = (sa.Index("ix_import_row_batch_id_meter_at", "batch_id", "meter", "at"),)
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("import_batch.id"), primary_key=True)
    line: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    usage_point: Mapped[str] = mapped_column(sa.String(64), default="")
    meter: Mapped[str] = mapped_column(sa.String(64), default="")
    at: Mapped[int | None]
    values: Mapped[dict[str, Any]]
    person: Mapped[str] = mapped_column(sa.String(80), default="")
    verdict: Mapped[str] = mapped_column(sa.String(8))
    reason: Mapped[str] = mapped_column(sa.String(48), default="")
    detail: Mapped[str] = mapped_column(sa.String(500), default="")


class QuarantineDecision(Base):
    """What became of a quarantined row. decision: adopted, discarded."""

    __tablename__ = "quarantine_decision"
    quarantine_id: Mapped[int] = mapped_column(sa.ForeignKey("quarantine.id"), primary_key=True, autoincrement=False)
    decision: Mapped[str] = mapped_column(sa.String(16))
    decided_at: Mapped[int]
    decided_by: Mapped[str] = mapped_column(sa.String(80))
    note: Mapped[str] = mapped_column(sa.String(500))
    office_row_id: Mapped[int | None]
