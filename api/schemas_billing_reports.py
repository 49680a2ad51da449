"""What goes over the wire about read rates and the monthly reading report."""

from __future__ import annotations

from pydantic import Field

from api.schemas import Answer, At


class RateOut(Answer):
    """Read rate 抄见率 of one group. How each due meter came to its index at the reading day."""

    group: str
    medium: str
    due: int = Field(description="应抄: usage points due that the books do not exclude.")
    read: int = Field(description="实抄: with an index that was read.")
    first_try: int = Field(description="In time, and the gateway reported no failed read before it.")
    after_retry: int = Field(description="In time, after failed reads.")
    earlier: int = Field(description="The last read before the reading day failed; an earlier one stands.")
    after_backfill: int = Field(description="Came late, out of a gateway's outbox.")
    by_hand: int
    way_unknown: int = Field(description="Read, and nobody noted when it arrived.")
    estimated: int
    estimated_why: dict[str, int] = Field(description="Method -> estimated.")
    missing: int
    missing_why: dict[str, int] = Field(description="Cause -> not read.")
    rate: str | None = Field(description="[%] read of due, rounded down; null when none is due.", examples=["98.43"])
    target: str | None = Field(description="[%] of the manual; null where there is none.", examples=["98"])
    met: bool | None


class RatePage(Answer):
    """Read rates of a period."""

    period: str
    by: str
    items: list[RateOut]
    total: RateOut
    unknown: list[str] = Field(description="What these numbers cannot know.")


class ReportLine(RateOut):
    """A line of the monthly reading report."""

    corrected: int = Field(description="Read totals that were corrected afterwards.")
    accuracy: str | None = Field(description="[%] read and not corrected, of read, rounded down.")
    solved: int = Field(description="Long-standing exceptions solved: open in the period before, billed now.")
    still_open: int = Field(description="Open in the period before, and now.")


class ReportOut(Answer):
    """The monthly reading report 抄表月报."""

    period: str
    made_at: At
    lines: list[ReportLine]
    total: ReportLine
    unknown: list[str]
