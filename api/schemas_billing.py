"""What goes over the wire about billing: totals, periods, closes, deltas; rules and read rates stand beside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from api.parameters import Word, clean
from api.schemas import Answer, At, NextCursor
from api.schemas_access import Body
from api.schemas_books import Id, Index, Note, When
from metering.quantities import Quantity
from registry.books import CustomerClass, Medium

PERIOD_PATTERN = r"^20\d\d-(0[1-9]|1[0-2])$"
Period = Annotated[
    str,
    Field(pattern=PERIOD_PATTERN, description="Month in which the period ends.", examples=["2026-02"]),
]
Day = Annotated[str, Field(pattern=r"^20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", examples=["2026-04-01"])]
State = Literal["billed", "doubtful", "missing", "excluded"]
DeltaState = Literal["proposed", "approved", "rejected", "replaced"]
Capacity = Literal["admin", "team_lead", "department_head", "finance", "deputy_manager"]
By = Literal["class", "district", "gateway", "make"]
Decimal = Annotated[str, Field(description="Decimal string of the natural unit; exact.", examples=["123.456"])]


class BoundaryOut(Answer):
    """The index that stands for a boundary."""

    index: Decimal
    read_at: At
    quality: str = Field(examples=["valid"])


class LineOut(Answer):
    """A part of a total: one meter between two indexes."""

    kind: str = Field(description="What ends it: meter, exchange, extra_day, customer, energy.", examples=["meter"])
    meter: str
    customer: str = Field(description="Account number that it belongs to.")
    opening: BoundaryOut
    closing: BoundaryOut
    rollovers: int
    consumption: Decimal
    reverse: Decimal
    energy: Decimal | None = Field(description="[kWh]; null without a calorific value.")


class TotalOut(Answer):
    """One usage point's total of one period, or why there is none. What is not known is null, never 0."""

    usage_point: str
    period: str = Field(examples=["2026-02"])
    account_number: str
    customer_class: str
    medium: str
    district: str
    state: str = Field(description="billed, doubtful, missing or excluded.", examples=["billed"])
    cause: str = Field(description="Why it is not simply billed.", examples=["gateway_down"])
    detail: str
    shown: list[str] = Field(description="Marks for the clerk: large_use, reverse, estimated, edited.")
    quantity: str
    unit: str
    from_at: At = Field(alias="from")
    to_at: At = Field(alias="to")
    consumption: Decimal | None
    forward: Decimal | None
    reverse: Decimal | None
    volume_actual: Decimal | None = Field(description="工况 [m³]")
    volume_standard: Decimal | None = Field(description="标况 [m³]")
    energy: Decimal | None = Field(description="[kWh]")
    year_to_date: Decimal | None
    opening: BoundaryOut | None
    closing: BoundaryOut | None
    edited: bool = Field(description="A boundary index was corrected.")
    method: str = Field(description="How it was estimated; empty when it was not.")
    closed: bool
    close: int | None = Field(description="The close that froze it.")
    computed_at: At
    version: int = Field(description="Rises with every change of any total.")
    lines: list[LineOut]


class TotalPage(Answer):
    """Totals by usage point; with `since`, in the order of their changes."""

    items: list[TotalOut]
    next_cursor: NextCursor
    resume_since: int | None = Field(
        description="On the last page of a list with `since`: hand it back as `since` to get what changed later."
    )


class DecisionOut(Answer):
    """What a clerk decided of a total."""

    kind: str = Field(examples=["accept"])
    cause: str
    consumption: Decimal | None
    note: str
    actor: str
    at: At


class TotalDetail(Answer):
    """A total with what people said of it."""

    total: TotalOut
    decisions: list[DecisionOut]
    deltas: list[DeltaOut]


class PeriodOut(Answer):
    """How a period stands."""

    period: str = Field(examples=["2026-02"])
    open: dict[str, int] = Field(description="State -> totals that are not closed.")
    closed: dict[str, int] = Field(description="State -> closed totals.")


class PeriodPage(Answer):
    """Periods that have totals, newest first."""

    items: list[PeriodOut]


class Scoped(Body):
    """Which usage points; what is left out stands for all."""

    customer_class: CustomerClass | None = None
    medium: Medium | None = None
    district: Word | None = None


class RefreshOut(Answer):
    """What a computation changed."""

    period: str
    changed: int
    states: dict[str, int]


class EarlierOut(Answer):
    """An earlier period that is still open."""

    period: str
    totals: int


class ChecklistOut(Answer):
    """What stands between a period and its close; the open ones are in the list of totals."""

    period: str
    counts: dict[str, int] = Field(description="State -> totals that are not closed.")
    missing: int
    doubtful: int
    causes: dict[str, int] = Field(description="Cause -> totals that are missing or doubtful.")
    not_over: int = Field(description="Usage points whose period has not ended.")
    earlier: list[EarlierOut]
    closable: bool = Field(description="With these two numbers confirmed, it can be closed now.")


class CloseIn(Scoped):
    """Close a period. missing, doubtful: how many you have seen and let stand."""

    missing: Annotated[int, Field(ge=0, le=10**9)]
    doubtful: Annotated[int, Field(ge=0, le=10**9)]
    note: Annotated[str, Field(max_length=2000), AfterValidator(clean)] = ""


class CloseOut(Answer):
    """A closed period of a scope."""

    id: int
    period: str
    customer_class: str
    medium: str
    district: str
    closed_at: At
    closed_by: str
    note: str
    totals: int
    open_missing: int
    open_doubtful: int
    hash: str = Field(description="SHA-256 over the digests of its totals.")


class ClosePage(Answer):
    """Closes, newest first."""

    items: list[CloseOut]
    next_cursor: NextCursor


class VerifyOut(Answer):
    """Whether closed totals are what was closed."""

    close: int
    unchanged: bool
    wrong: list[str] = Field(description="What is not as it was, in sentences; the first 100.")


class DecideIn(Body):
    """accept: a doubtful total is billed as it stands. reread: the meter is read again."""

    kind: Literal["accept", "reread"]
    note: Note = ""


class HandReadingIn(Body):
    """A manual reading at a usage point. meter: where several hang there."""

    meter: Id | None = None
    read_at: When
    values: dict[Quantity, Index] = Field(min_length=1, max_length=21)
    person: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(clean)]
    note: Note = ""


class ApprovalOut(Answer):
    """One capacity's word."""

    capacity: str
    word: str
    actor: str
    note: str
    at: At


class DeltaOut(Answer):
    """A change of a closed total, billed in a later period."""

    id: int
    usage_point: str
    period: str
    in_period: str = Field(description="Period whose bill carries it.")
    kind: str = Field(description="late_data or adjustment.")
    quantity: str
    before: Decimal | None
    after: Decimal | None
    amount: Decimal
    cause: str
    account: str
    state: str
    proposed_by: str
    proposed_at: At
    needs: list[str] = Field(description="Capacities that must approve it.")
    waits_for: list[str] = Field(description="Those that have not spoken.")
    approvals: list[ApprovalOut]
    version: int


class DeltaPage(Answer):
    """Deltas, oldest first; with `since`, in the order of their changes."""

    items: list[DeltaOut]
    next_cursor: NextCursor


class FoundOut(Answer):
    """Delta lines that were proposed."""

    period: str
    deltas: list[int]


class AdjustIn(Body):
    """A refund (below 0) or extra charge on a closed total 退补."""

    usage_point: Id
    period: Period
    amount: Index
    cause: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$", examples=["meter_test"])]
    account: Annotated[
        str, Field(max_length=2000, description="The written account; needed above a size."), AfterValidator(clean)
    ] = ""


class ApproveIn(Body):
    """A word on a delta, in a capacity that the caller has."""

    word: Literal["approved", "rejected"]
    capacity: Capacity
    note: Annotated[str, Field(max_length=2000), AfterValidator(clean)] = ""


class StretchOut(Answer):
    """Expected readings that share one answer."""

    meter: str
    state: str = Field(description="received, late, quarantined, waiting, missing or not_due.")
    cause: str
    detail: str
    from_at: At = Field(alias="from")
    to_at: At = Field(alias="to")
    readings: int


class WhyOut(Answer):
    """Of every expected reading of a period, what became of it."""

    usage_point: str
    period: str
    from_at: At = Field(alias="from")
    to_at: At = Field(alias="to")
    counts: dict[str, int]
    stretches: list[StretchOut]
