"""What goes over the wire about reconciliation."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from api.parameters import clean
from api.schemas import Answer, At, NextCursor
from api.schemas_access import Body
from api.schemas_billing import Period

District = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]


class ReconcileIn(Body):
    """What to compare, or for whom exchanges are asked for."""

    period: Period
    district: District | None = None


class ComparedOut(Answer):
    """One comparison. difference, and the numbers in facts: decimal strings of the natural unit, or percent."""

    kind: str = Field(examples=["prepaid"])
    usage_point: str = Field(examples=["UP-1"])
    period: str = Field(examples=["2026-03"])
    district: str = ""
    verdict: str = Field(
        description="agrees, waiting, mismatch, shown, look, loss, gain or not_knowable.", examples=["mismatch"]
    )
    cause: str = ""
    from_: At = Field(alias="from")
    to: At
    difference: str | None = Field(None, description="null: not knowable.", examples=["6.72"])
    work_order: int | None = Field(None, description="The meter exchange that it asked for.")
    computed_at: At
    facts: dict[str, Any]


class ComparedPage(Answer):
    """A page of comparisons, by usage point."""

    items: list[ComparedOut]
    next_cursor: NextCursor = None


class RunOut(Answer):
    """What a run came to."""

    kind: str
    period: str
    verdicts: dict[str, int] = Field(description="Verdict -> how many.", examples=[{"agrees": 120, "mismatch": 1}])


class ExchangesOut(Answer):
    """Work orders that were opened or joined."""

    period: str
    work_orders: list[int]


class SupplyLinkOut(Answer):
    """Who supplies a usage point from a time on. parent "": nobody any more."""

    parent: str
    child: str
    from_: At = Field(alias="from")
    parent_class: str
    child_class: str


class SupplyLinkPage(Answer):
    """All links of one parent or child, in order of time."""

    items: list[SupplyLinkOut]
