"""The tables of findings. Times are [ms UTC], volumes int64 in 10⁻⁶ of the house unit."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


def _where_known(column: str, condition: str) -> sa.Index:
    """An index of the few rows that have the column; the others cost nothing."""
    return sa.Index(
        f"ix_finding_{column}", column, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition)
    )


class FindingRecord(Base):
    """One cause at one usage point (or one gateway, bus, district that fell silent), and its alarm.

    key: the rules' own name for it. alarm: False for information. active: its condition holds. acked, told,
    suppressed, shelved_until, out_until: see `registry.alarm_states.Alarm`; state: the word that follows from them.
    window_id: the maintenance window that took it out of service. version: number of its last line of history.
    """

    __tablename__ = "finding"
    __table_args__ = (
        *(_where_known(name, f"{name} IS NOT NULL") for name in ("shelved_until", "out_until", "window_id")),
        _where_known("parent_key", "parent_key <> ''"),
    )
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(sa.String(160), unique=True)
    usage_point: Mapped[str] = mapped_column(sa.String(64), index=True)
    meter: Mapped[str] = mapped_column(sa.String(64), index=True)
    kind: Mapped[str] = mapped_column(sa.String(48))
    rule: Mapped[str] = mapped_column(sa.String(48))
    rule_version: Mapped[str] = mapped_column(sa.String(32))
    severity: Mapped[str] = mapped_column(sa.String(16))
    priority: Mapped[str] = mapped_column(sa.String(8))
    started_at: Mapped[int]
    detected_at: Mapped[int] = mapped_column(index=True)
    updated_at: Mapped[int]
    cleared_at: Mapped[int | None]
    withdrawn_at: Mapped[int | None]
    withdrawn_why: Mapped[str] = mapped_column(sa.String(500))
    repeats: Mapped[int]
    evidence: Mapped[dict[str, Any]]
    thresholds_version: Mapped[str] = mapped_column(sa.String(64))
    gateway: Mapped[str] = mapped_column(sa.String(48), index=True)
    bus: Mapped[str] = mapped_column(sa.String(48))
    district: Mapped[str] = mapped_column(sa.String(64), index=True)
    parent_key: Mapped[str] = mapped_column(sa.String(160))
    state: Mapped[str] = mapped_column(sa.String(8), index=True)
    alarm: Mapped[bool]
    active: Mapped[bool] = mapped_column(index=True)
    acked: Mapped[bool]
    told: Mapped[bool]
    suppressed: Mapped[bool]
    shelved_until: Mapped[int | None]
    out_until: Mapped[int | None]
    window_id: Mapped[int | None]
    version: Mapped[int]


class FindingHistory(Base):
    """Every event and comment of a finding. number: 1, 2, 3 … of its finding. who: the actor's name.

    event: of `registry.alarm_states.AlarmEvent`, or "comment". until: [ms UTC] the end that was set.
    """

    __tablename__ = "finding_history"
    __table_args__ = (
        sa.UniqueConstraint("finding_id", "number"),
        sa.Index("ix_finding_history_to_state_at", "to_state", "at"),
    )
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    finding_id: Mapped[int] = mapped_column(sa.ForeignKey("finding.id"))
    number: Mapped[int]
    at: Mapped[int]
    who: Mapped[str] = mapped_column(sa.String(80))
    event: Mapped[str] = mapped_column(sa.String(16))
    from_state: Mapped[str] = mapped_column(sa.String(8))
    to_state: Mapped[str] = mapped_column(sa.String(8))
    until: Mapped[int | None]
    note: Mapped[str] = mapped_column(sa.String(1000))


class MaintenanceWindow(Base):
    """A time in which alarms of a meter, bus, gateway or district are out of service. from_at <= t < to_at.

    scope: meter, bus, gateway or district. target: its id; of a bus "gateway/bus". ended_at: when somebody ended it
    early. version: rises with every change. district: of the target, for the limits by area.
    """

    __tablename__ = "maintenance_window"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    scope: Mapped[str] = mapped_column(sa.String(8))
    target: Mapped[str] = mapped_column(sa.String(100), index=True)
    district: Mapped[str] = mapped_column(sa.String(64), index=True)
    from_at: Mapped[int]
    to_at: Mapped[int] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(sa.String(500))
    created_by: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[int]
    ended_by: Mapped[str] = mapped_column(sa.String(80), default="")
    ended_at: Mapped[int | None]
    version: Mapped[int] = mapped_column(default=1)


class ThresholdChange(Base):
    """Thresholds that count from a date on. scope: {"medium", "class", "meter"}, empty for all. values: by name.

    state: proposed, tested, confirmed, cancelled. backtest: what the past would have looked like with them; job_id:
    the job that finds out. decided_by, decided_at, note: of whoever confirmed or cancelled. accepted: the number of
    meters that he accepted to be flagged, where it had to be said.
    """

    __tablename__ = "threshold_change"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    effective_at: Mapped[int] = mapped_column(index=True)
    author: Mapped[str] = mapped_column(sa.String(80))
    reason: Mapped[str] = mapped_column(sa.String(500))
    created_at: Mapped[int]
    scope: Mapped[dict[str, Any]]
    values: Mapped[dict[str, Any]]
    backtest: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    decided_by: Mapped[str] = mapped_column(sa.String(80), default="")
    decided_at: Mapped[int | None]
    note: Mapped[str] = mapped_column(sa.String(500), default="")
    accepted: Mapped[int | None]
    job_id: Mapped[int | None]
    version: Mapped[int] = mapped_column(default=1)
