"""What goes over the wire about findings, their alarms, and maintenance windows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.parameters import Moment, clean
from api.schemas import Answer, At, NextCursor
from api.schemas_access import Body as PlainBody
from registry.alarm_states import AlarmState
from registry.maintenance import Scope

MOST_AT_ONCE = 500
Note = Annotated[str, Field(max_length=1000, description="Why; it stays in the history."), AfterValidator(clean)]
Said = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(clean)]


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("moment", "must be a time with offset such as 2026-03-01T00:00:00Z, as text")
    return value


When = Annotated[Moment, BeforeValidator(_text)]
Until = Annotated[When, Field(description="When it ends by itself; needed.")]


class FindingOut(Answer):
    """One finding and its alarm."""

    id: int = Field(examples=[17])
    key: str = Field(description="The rules' own name for it.", examples=["UP-1:leak:burst:1772323200000"])
    kind: str = Field(examples=["leak"])
    rule: str = Field(examples=["burst"])
    severity: str = Field(description="info, minor, major or critical.", examples=["critical"])
    priority: str = Field(description="none (information), low, medium, high or urgent.", examples=["urgent"])
    state: AlarmState = Field(description="NORM, UNACK, ACKED, RTNUN, SHLVD, DSUPR or OOSRV.", examples=["UNACK"])
    open: bool = Field(description="Its condition still holds.")
    usage_point: str = Field(description="Empty for an outage of a gateway, bus or district.")
    meter: str
    gateway: str
    bus: str
    district: str
    started_at: At = Field(description="When it began, by the readings.")
    detected_at: At = Field(description="When the rules could know.")
    updated_at: At
    cleared_at: At | None
    withdrawn_at: At | None = Field(description="When later readings disproved it.")
    withdrawn_why: str
    repeats: int = Field(description="How often it came back.")
    parent: str = Field(description="Key of the outage that explains it; empty when it speaks for itself.")
    shelved_until: At | None
    out_of_service_until: At | None
    maintenance_window: int | None = Field(description="The window that took it out of service.")
    version: int = Field(description="Rises with every line of history; its ETag is the same number.")


class FindingPage(Answer):
    """Findings, newest first."""

    items: list[FindingOut]
    next_cursor: NextCursor


class HistoryOut(Answer):
    """One line of a finding's history."""

    number: int = Field(examples=[1])
    at: At
    who: str = Field(examples=["user:li.wei"])
    event: str = Field(description="What happened, or comment.", examples=["acknowledge"])
    from_state: AlarmState
    to_state: AlarmState
    until: At | None
    note: str


class FindingDetail(FindingOut):
    """One finding with its proof and its history."""

    rule_version: str
    thresholds_version: str
    evidence: dict[str, Any] = Field(description="The numbers that prove it.")
    children: int = Field(description="Findings that it explains.")
    parent_id: int | None
    allowed: list[str] = Field(description="What a person can do now.", examples=[["acknowledge", "shelve"]])
    history: list[HistoryOut] = Field(description="Oldest first; of very long ones the last 1000 lines.")


class Body(PlainBody):
    """Base of these bodies: a text that looks like a number is none."""

    model_config = ConfigDict(strict=True)


class AcknowledgeIn(Body):
    """Acknowledge 确认."""

    note: Note = ""


class CommentIn(Body):
    """A comment 备注."""

    note: Said


class UntilIn(Body):
    """Shelve 搁置 or take out of service 停用: never without an end."""

    until: Until
    note: Note = ""


class BackIn(Body):
    """Unshelve 取消搁置 or return to service 恢复投用."""

    note: Note = ""


class ManyIn(Body):
    """Several findings to acknowledge."""

    ids: list[Annotated[int, Field(ge=1, le=2**63 - 1)]] = Field(min_length=1, max_length=MOST_AT_ONCE)
    note: Note = ""


class OneOfMany(Answer):
    """What became of one of them."""

    id: int
    status: int = Field(description="200 done, 404 no such finding, 409 not permitted now.", examples=[200])
    state: AlarmState | None = Field(description="The state afterwards; null for a finding that does not exist.")
    detail: str = Field(description="Why not; empty when it is done.")


class ManyOut(Answer):
    """What became of each of them, in the order of the request."""

    items: list[OneOfMany]


class WindowIn(Body):
    """A new maintenance window 检修窗口."""

    scope: Scope
    target: Annotated[str, Field(min_length=1, max_length=100, examples=["gw-1"]), AfterValidator(clean)] = Field(
        description='A meter, "gateway/bus", a gateway or a district, as scope says.'
    )
    from_: When | None = Field(None, alias="from", description="When it begins; now when left out.")
    to: Until
    reason: Said


class WindowOut(Answer):
    """A maintenance window: alarms of its target are out of service while it lasts."""

    id: int
    scope: str
    target: str
    district: str
    from_: At = Field(alias="from", serialization_alias="from")
    to: At
    reason: str
    created_by: str
    created_at: At
    ended_by: str
    ended_at: At | None = Field(description="When somebody ended it early.")
    active: bool = Field(description="It lasts now.")
    version: int


class WindowPage(Answer):
    """Maintenance windows, newest first."""

    items: list[WindowOut]
    next_cursor: NextCursor
