"""What the anomaly service and ingest say to each other, and what the service must remember. Times are [ms UTC]."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big


class Touched(Base):
    """Ingest's log of changes: which meters got readings with t0 <= read_at <= t1 in one of its transactions.

    Written with the acknowledged positions, read by any number of followers, each with its own place in it, and
    pruned by age. meters: their ids as JSON, compressed by zlib.
    """

    __tablename__ = "touched"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 (SQLAlchemy's form): a number never comes again
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    at: Mapped[int] = mapped_column(index=True)
    t0: Mapped[int]
    t1: Mapped[int]
    meters: Mapped[bytes]


class WatchPart(Base):
    """Which anomaly service judges the meters of a part, and how far it has come.

    token: rises with every change of hands (fencing). expires_at: until then nobody else takes the part. judged_at:
    the timer up to which everything is judged, 0 when it never was. log: number in `touched` up to which all is seen.
    """

    __tablename__ = "watch_part"
    part: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(sa.String(48))
    token: Mapped[int]
    expires_at: Mapped[int]
    judged_at: Mapped[int] = mapped_column(default=0)
    log: Mapped[int] = mapped_column(default=0)


class WatchFinding(Base):
    """A finding as the rules remember it, while it can still be held, repeated or withdrawn. part: of its meter."""

    __tablename__ = "watch_finding"
    key: Mapped[str] = mapped_column(sa.String(160), primary_key=True)
    part: Mapped[int] = mapped_column(index=True)
    body: Mapped[dict[str, Any]]
