"""What goes over the wire about work orders 派工单, crews, follow-up calls and inspections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.orders.lifecycle import Deed, State
from api.orders.words import OrderType, Priority, Result
from api.parameters import clean
from api.schemas import Amount, Answer, At, NextCursor
from api.schemas_access import Body
from api.schemas_findings import When
from metering.quantities import Quantity, to_micro

Label = Literal["true", "false", "other_cause", "not_looked"]


def _micro(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("index", 'must be a decimal number as text, such as "1234.567"')
    try:
        return to_micro(value)
    except ValueError as error:
        raise PydanticCustomError("index", "{why}", {"why": str(error)}) from None


Index = Annotated[
    int, BeforeValidator(_micro, json_schema_input_type=str), Field(ge=0, le=4 * 10**15, examples=["1234.567"])
]
Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]
Place = Annotated[str, Field(min_length=1, max_length=96), AfterValidator(clean)]
Note = Annotated[str, Field(max_length=2000, description="Why; it stays with the order."), AfterValidator(clean)]
Said = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(clean)]
Reason = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(clean)]
ExternalId = Annotated[
    str, Field(min_length=1, max_length=128, description="The outside system's own number."), AfterValidator(clean)
]


class OrderOut(Answer):
    """One work order 派工单."""

    id: int = Field(examples=[1])
    place: str = Field(description="Usage point, or gateway:…, bus:…, district:….", examples=["UP-1"])
    usage_point: str | None
    meter: str
    district: str
    type: OrderType
    priority: Priority
    state: State
    result: str = Field(description="passed, not_passed, cancelled; empty while it is open.")
    reason_en: str
    reason_zh: str
    policy: str = Field(description="Version and line of the policy that opened it; empty when a person did.")
    opened_at: At
    opened_by: str
    accepted_at: At | None
    respond_by: At | None = Field(description="By when work must have begun.")
    due_at: At
    due_rule: str = Field(examples=["5 working days"])
    provisional: bool = Field(description="The calendar of a year on the way is not announced yet.")
    overdue: bool
    appointment_at: At | None
    assignee: str = Field(description="Worker or team; empty while nobody is sent.")
    visits: int
    escalated: list[str] = Field(description="What dispatchers were told of.", examples=[["respond_near"]])
    finished_at: At | None
    label: str = Field(description="What was really found: true, false, other_cause, not_looked.")
    parent_id: int | None
    external_id: str | None
    version: int = Field(description="Rises with every change; its ETag is the same number.")


class OrderPage(Answer):
    """Work orders, newest first."""

    items: list[OrderOut]
    next_cursor: NextCursor


class StepOut(Answer):
    """One step of an order's life."""

    number: int = Field(examples=[1])
    at: At
    actor: str
    deed: str = Field(description="open, join, raise, escalate, or a step.", examples=["dispatch"])
    before: str
    after: str
    note: str
    data: dict[str, Any]


class ReceiptOut(Answer):
    """A receipt 回执."""

    visit: int
    worker: str
    arrived_at: At
    started_at: At | None
    finished_at: At | None
    left_at: At | None
    result: Result
    note: str
    index_seen: dict[str, Amount]
    materials: list[dict[str, Any]]
    amount: str = Field(description="Amount collected as decimal text; empty when none was.")
    label: str
    filed_by: str
    filed_at: At


class PhotoOut(Answer):
    """What is known of a photo; its bytes have an address of their own."""

    id: int = Field(examples=[1])
    visit: int
    media_type: str = Field(examples=["image/jpeg"])
    sha256: str
    size: int = Field(description="[bytes]")
    taken_by: str
    at: At


class PhotosOut(Answer):
    """The photos of an order."""

    items: list[PhotoOut]


class FindingEvidence(Answer):
    """A finding that speaks for the order, as it was when it joined."""

    finding: int
    joined_at: At
    withdrawn_at: At | None
    kind: str
    rule: str
    rule_version: str
    thresholds_version: str
    severity: str
    started_at: At | None
    detected_at: At | None
    numbers: dict[str, Any] = Field(description="The numbers that prove it.")


class EarlierOrder(Answer):
    """An earlier order at this place."""

    id: int
    type: OrderType
    opened_at: At
    finished_at: At | None
    state: State
    result: str
    label: str


class SeriesPoint(Answer):
    """One hour or day of the chart. consumption: null where it is not known, never 0 for it."""

    at: str = Field(description="The hour (RFC 3339) or the local day.", examples=["2026-03-01"])
    consumption: str | None
    index: str


class Series(Answer):
    """Consumption 用量 around the finding."""

    quantity: str
    unit: str
    days: list[SeriesPoint]
    hours: list[SeriesPoint]


class Evidence(Answer):
    """Why somebody is sent: what the person at the door and the person at the desk both see."""

    sentence_en: str
    sentence_zh: str
    findings: list[FindingEvidence]
    meter: dict[str, Any] = Field(description="Serial, type, inlet, year of installation, start index, index.")
    readings: list[dict[str, Any]] = Field(description="The last readings with their quality, newest first.")
    series: Series | None
    earlier: list[EarlierOrder]
    raw_frames: list[str]
    missing: list[str] = Field(description="What could not be shown, and why.")


class OrderDetail(OrderOut):
    """One work order with everything that belongs to it."""

    allowed: list[Deed] = Field(description="Steps that are possible now for the caller.")
    steps: list[StepOut]
    receipts: list[ReceiptOut]
    photos: list[PhotoOut]
    evidence: Evidence | None


class OpenIn(Body):
    """An order opened by hand: a customer's call, a requested meter test, a meter reader's remark."""

    usage_point: Name
    type: Annotated[OrderType, Field(strict=False)]
    priority: Annotated[Priority, Field(strict=False)] = Priority.SOON
    reason: Reason
    reason_zh: Annotated[str, Field(max_length=500), AfterValidator(clean)] = ""
    deadline: Annotated[str, Field(max_length=24)] | None = Field(
        None, description='"6 h" or "5 working days"; the manuals\' promise of the type when left out.'
    )


class AcceptIn(Body):
    """Acceptance 受理; priority as chosen now."""

    priority: Annotated[Priority | None, Field(strict=False)] = None
    note: Note = ""


class NoteIn(Body):
    """A step with a note (needed for most)."""

    note: Note = ""


class CancelIn(Body):
    """Cancelling 取消. not_reached: the customer could not be reached; possible when the deadline is over."""

    note: Note = ""
    not_reached: bool = False


class DispatchIn(Body):
    """Dispatch 派工 to a worker or a team."""

    assignee: Name
    note: Note = ""


class ExtendIn(Body):
    """Extension 顺延 by appointment."""

    appointment_at: When
    note: Note = ""


class Material(Body):
    """A material that was used."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(clean)]
    count: Annotated[int, Field(ge=1, le=100_000)]


class ReceiptIn(Body):
    """A receipt 回执. worker: who was there; the caller himself when left out."""

    worker: Name | None = None
    arrived_at: When
    started_at: When | None = None
    finished_at: When | None = None
    left_at: When | None = None
    result: Annotated[Result, Field(strict=False)]
    note: Note = ""
    index_seen: dict[Quantity, Index] = Field(default_factory=dict, max_length=10)
    materials: list[Material] = Field(default_factory=list, max_length=50)
    amount: Annotated[str, Field(pattern=r"^(\d{1,9}(\.\d{1,2})?)?$")] = ""
    label: Label | Literal[""] = ""
    not_reached: bool = False


class ExternalIn(Body):
    """The number of the order in an outside system; null takes it away."""

    external_id: ExternalId | None


class StatusIn(Body):
    """What an outside system (CMMS) says of an order. The same status twice changes nothing."""

    status: Literal["accepted", "dispatched", "arrived", "finished", "cancelled"]
    assignee: Name | None = None
    note: Note = ""
    result: Literal["passed", "not_passed", "unfinished", "cannot_be_done"] | None = None
    label: Label | Literal[""] = ""
    arrived_at: When | None = None
    finished_at: When | None = None


class TeamIn(Body):
    """A team 班组: its members are users, its districts empty for everywhere."""

    name: Annotated[str, Field(max_length=200), AfterValidator(clean)] = ""
    members: list[Name] = Field(default_factory=list, max_length=200)
    districts: list[Name] = Field(default_factory=list, max_length=200)
    enabled: bool = True


class CrewOut(Answer):
    """A team or worker that can be sent."""

    id: str
    team: bool
    name: str
    members: list[str]
    districts: list[str] = Field(description="Empty: everywhere.")
    enabled: bool
    away_until: At | None
    dispatched: int = Field(description="Orders that are dispatched to it now.")


class CrewsOut(Answer):
    """Teams and workers by name."""

    items: list[CrewOut]


class AbsenceIn(Body):
    """An absence 缺勤. reassign_to: who goes to the absentee's orders from now on."""

    assignee: Name
    from_: When | None = Field(None, alias="from", description="Now when left out.")
    to: When
    note: Annotated[str, Field(max_length=500), AfterValidator(clean)] = ""
    reassign_to: Name | None = None


class AbsenceOut(Answer):
    """An absence."""

    id: int
    assignee: str
    from_: At = Field(alias="from", serialization_alias="from")
    to: At
    note: str


class AbsencesOut(Answer):
    """Absences that last or are to come, and the dispatched orders of those who are away now."""

    items: list[AbsenceOut]
    stranded: list[int] = Field(description="Orders that somebody else must be sent to.")


class AbsenceMade(AbsenceOut):
    """A new absence, and what became of the absentee's orders."""

    moved: list[int]
    stranded: list[int]


class FollowUpOut(Answer):
    """A follow-up call 回访."""

    order: int
    type: OrderType
    district: str
    stratum: str = Field(description="always, or worker and month of the sample.")
    begins_at: At
    ends_at: At
    asked_at: At | None
    asked_by: str
    satisfied: bool | None
    note: str


class FollowUpPage(Answer):
    """Follow-up calls by order."""

    items: list[FollowUpOut]
    next_cursor: NextCursor


class FollowUpIn(Body):
    """The answer of a call."""

    satisfied: bool
    note: Note = ""


class PlanYearIn(Body):
    """A year whose safety inspections are to be planned."""

    year: Annotated[int, Field(ge=2000, le=9998)]


class DistrictPlan(Answer):
    """A district's inspections of a year."""

    district: str
    planned: int
    opened: int
    finished: int


class PlanOut(Answer):
    """Safety inspections 安检 of a year."""

    year: int
    planned: int
    opened: int
    finished: int
    districts: list[DistrictPlan]


class PrecisionOut(Answer):
    """How often a rule was right, by customer class and month of the finding."""

    rule: str = Field(examples=["burst"])
    kind: str
    customer_class: str
    month: str = Field(examples=["2026-03"])
    precision: float | None = Field(description="true / (true + false + other_cause); null when nobody could look.")
    true: int
    false: int
    other_cause: int
    not_looked: int


class PrecisionsOut(Answer):
    """Precision of the rules."""

    items: list[PrecisionOut]
