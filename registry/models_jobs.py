"""The tables of long work done in the background, and of the shift log. Times are [ms UTC]."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


class Job(Base):
    """One piece of long work. state: queued, running, done, failed, cancelled, interrupted, expired.

    kind: of `api.jobs.kinds.KINDS`. by: who asked for it; actor: his roles,
    ranks and areas at that time. holder: the process that does
    it; beat_at: its last sign of life. progress: [%]. cancel: somebody wants it to end. outcome: small facts for the
    list; the result itself is a file, named result_name to whoever downloads it.
    """

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(sa.String(48))
    title: Mapped[str] = mapped_column(sa.String(200))
    args: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    by: Mapped[str] = mapped_column(sa.String(80), index=True)
    actor: Mapped[dict[str, Any]]
    created_at: Mapped[int]
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    holder: Mapped[str] = mapped_column(sa.String(48), default="")
    beat_at: Mapped[int | None]
    progress: Mapped[int] = mapped_column(default=0)
    progress_text: Mapped[str] = mapped_column(sa.String(200), default="")
    cancel: Mapped[bool] = mapped_column(default=False)
    outcome: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    problem: Mapped[str] = mapped_column(sa.String(1000), default="")
    result_name: Mapped[str] = mapped_column(sa.String(200), default="")
    result_type: Mapped[str] = mapped_column(sa.String(80), default="")
    result_bytes: Mapped[int | None]
    result_sha256: Mapped[str] = mapped_column(sa.String(64), default="")
    expires_at: Mapped[int | None] = mapped_column(index=True)


class Shift(Base):
    """One shift 班次 of one desk of the control room. state: open, handed, closed.

    open_key: the desk while the shift is not closed, else NULL: one at a time. districts: what the desk watches,
    ["*"] for all. content: what was open and what was done, frozen at the hand-over; sha256: of its canonical JSON.
    """

    __tablename__ = "shift"
    __table_args__ = (sa.UniqueConstraint("open_key"),)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    desk: Mapped[str] = mapped_column(sa.String(48), index=True)
    open_key: Mapped[str | None] = mapped_column(sa.String(48))
    districts: Mapped[list[Any]] = mapped_column(sa.JSON())
    state: Mapped[str] = mapped_column(sa.String(8), index=True)
    on_duty: Mapped[str] = mapped_column(sa.String(80))
    started_at: Mapped[int]
    previous_id: Mapped[int | None]
    handed_at: Mapped[int | None]
    handed_note: Mapped[str] = mapped_column(sa.String(2000), default="")
    taken_at: Mapped[int | None]
    taken_by: Mapped[str] = mapped_column(sa.String(80), default="")
    taken_note: Mapped[str] = mapped_column(sa.String(2000), default="")
    content: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    sha256: Mapped[str] = mapped_column(sa.String(64), default="")
    version: Mapped[int] = mapped_column(default=1)


class ShiftNote(Base):
    """A line that somebody wrote into an open shift, numbered 1, 2, 3 … per shift."""

    __tablename__ = "shift_note"
    shift_id: Mapped[int] = mapped_column(sa.ForeignKey("shift.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    at: Mapped[int]
    who: Mapped[str] = mapped_column(sa.String(80))
    note: Mapped[str] = mapped_column(sa.String(2000))
