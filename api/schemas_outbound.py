"""What goes over the wire about webhooks, their deliveries, and notification rules."""

from __future__ import annotations

from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from api.orders.words import OrderType
from api.outbound.events import KINDS
from api.outbound.rules import DEFAULT_EVENTS, parse_quiet
from api.outbound.templates import Template
from api.parameters import clean
from api.schemas import Answer, At, NextCursor
from api.schemas_findings import Body
from metering.settings import nearest
from registry.findings_words import Priority

_GROUPS = ("*", "finding.*", "work_order.*", "house.*")


def _event(word: str) -> str:
    if word not in KINDS and word not in _GROUPS:
        problem = f"unknown event; {nearest(word, [*KINDS, *_GROUPS])}"
        raise PydanticCustomError("event", "{problem}", {"problem": problem})
    return word


def _quiet(text: str) -> str:
    try:
        parse_quiet(text)
    except ValueError:
        raise PydanticCustomError("quiet", "write 22:00-07:00, or nothing for no quiet hours") from None
    return text


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise PydanticCustomError("zone", "is no time zone such as Asia/Shanghai")
    return ZoneInfo(name).key


EventWord = Annotated[str, Field(max_length=64, examples=["finding.opened"]), AfterValidator(_event)]
Name = Annotated[str, Field(min_length=1, max_length=120, examples=["control room"]), AfterValidator(clean)]
District = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]
Districts = Annotated[list[District], Field(max_length=200, description="Only these districts; all when empty.")]
Url = Annotated[str, Field(min_length=1, max_length=1000, examples=["https://cmms.example/hook"])]
Events = Annotated[list[EventWord], Field(max_length=40, description='Events, "finding.*" or "*".')]
Quiet = Annotated[str, Field(max_length=11, examples=["22:00-07:00"]), AfterValidator(_quiet)]
Zone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]
KindWord = Annotated[str, Field(min_length=1, max_length=48), AfterValidator(clean)]
Target = Annotated[
    str, Field(min_length=6, max_length=260, examples=["mail:duty@example.org", "webhook:1"]), AfterValidator(clean)
]


class WebhookIn(Body):
    """A new webhook."""

    name: Name
    url: Url
    kinds: Events = Field(["*"], description="Events that it gets; [] when only notification rules use it.")
    districts: Districts = Field([], description="Only these districts; all when empty.")
    template: Template = Field("metergate", description="Form of the body; odoo, atlas and maximo are not proved.")
    enabled: bool = True


class WebhookChangeIn(Body):
    """What to change of a webhook; what is left out stays."""

    name: Name | None = None
    url: Url | None = None
    kinds: Events | None = None
    districts: Districts | None = None
    template: Template | None = None
    enabled: bool | None = None


class WebhookOut(Answer):
    """A webhook; its secret is never shown again, nor the query of its address, which often holds a key."""

    id: int = Field(examples=[1])
    name: str
    url: str = Field(examples=["https://cmms.example/hook?…"])
    kinds: list[str]
    districts: list[str]
    template: str
    enabled: bool
    disabled_why: str = Field(description="Why it was switched off by itself.")
    waiting: int = Field(description="Deliveries on their way.")
    dead: int = Field(description="Deliveries that were given up.")
    created_by: str
    created_at: At
    version: int


class WebhookPage(Answer):
    """All webhooks."""

    items: list[WebhookOut]


class WebhookMade(WebhookOut):
    """A webhook with its secret, shown this once."""

    secret: str = Field(description="Signing secret after Standard Webhooks.", examples=["whsec_…"])


class DeliveryOut(Answer):
    """One message on its way out, or what became of it."""

    id: str = Field(description="The receiver's key against doubles: header webhook-id, or Message-ID.")
    channel: str = Field(examples=["webhook"])
    webhook: int | None
    target: str = Field(description="Address of an e-mail.")
    kind: str = Field(description="The event, or notification.", examples=["finding.opened"])
    subject: str
    state: str = Field(description="waiting, delivered or dead.", examples=["delivered"])
    attempts: int
    answer: str = Field(description="What came back last.")
    created_at: At
    next_at: At | None = Field(description="When it is tried again.")
    delivered_at: At | None


class DeliveryDetail(DeliveryOut):
    """One message with its content."""

    payload: str


class DeliveryPage(Answer):
    """Messages, newest first."""

    items: list[DeliveryOut]
    next_cursor: NextCursor


class ReplayedOut(Answer):
    """How many dead deliveries are sent again."""

    replayed: int


class StepBody(Body):
    """Whom to tell, and how long after the event."""

    after_min: int = Field(ge=0, le=10_080, description="Minutes after the event; 0 in the first step.")
    to: list[Target] = Field(min_length=1, max_length=50)


def _ascending(steps: list[StepBody] | None) -> list[StepBody] | None:
    minutes = [step.after_min for step in steps or ()]
    if minutes and (minutes[0] != 0 or minutes != sorted(set(minutes))):
        raise PydanticCustomError("steps", "the first step has after_min 0, each further one more")
    return steps


class RuleIn(Body):
    """A new notification rule: who is told of what."""

    name: Name
    enabled: bool = True
    events: Events = Field(list(DEFAULT_EVENTS), min_length=1)
    kinds: list[KindWord] = Field([], max_length=50, description="Kinds of findings; all when empty.")
    order_types: list[OrderType] = Field([], max_length=20, description="Types of work orders; all when empty.")
    districts: Districts = Field([], description="Only these districts; all when empty.")
    min_priority: Priority = Field("low", description="Only this priority and above.")
    steps: list[StepBody] = Field(
        min_length=1, max_length=10, description="Further steps tell those who come next while nobody acknowledges."
    )
    quiet: Quiet = Field("", description="Quiet hours 免打扰, local time; urgent ones break through.")
    tz: Zone = "Asia/Shanghai"
    bundle_s: int = Field(60, ge=0, le=86_400, description="Time for which messages are gathered [s].")
    digest_above: int = Field(5, ge=1, le=1000, description="More than that many become a digest.")

    @model_validator(mode="after")
    def _steps(self) -> RuleIn:
        _ascending(self.steps)
        return self


class RuleChangeIn(Body):
    """What to change of a rule; what is left out stays."""

    name: Name | None = None
    enabled: bool | None = None
    events: Events | None = Field(None, min_length=1)
    kinds: list[KindWord] | None = Field(None, max_length=50)
    order_types: list[OrderType] | None = Field(None, max_length=20)
    districts: Districts | None = None
    min_priority: Priority | None = None
    steps: list[StepBody] | None = Field(None, min_length=1, max_length=10)
    quiet: Quiet | None = None
    tz: Zone | None = None
    bundle_s: int | None = Field(None, ge=0, le=86_400)
    digest_above: int | None = Field(None, ge=1, le=1000)

    @model_validator(mode="after")
    def _steps(self) -> RuleChangeIn:
        _ascending(self.steps)
        return self


class StepOut(Answer):
    """One step of a rule."""

    after_min: int
    to: list[str]


class RuleOut(Answer):
    """A notification rule."""

    id: int = Field(examples=[1])
    name: str
    enabled: bool
    events: list[str]
    kinds: list[str]
    order_types: list[str]
    districts: list[str]
    min_priority: str
    steps: list[StepOut]
    quiet: str
    tz: str
    bundle_s: int
    digest_above: int
    created_by: str
    created_at: At
    version: int


class RulePage(Answer):
    """All notification rules."""

    items: list[RuleOut]


def values_of(body: Body) -> dict[str, Any]:
    """Return what a change names, as JSON types; null counts as left out."""
    return {
        name: value for name, value in body.model_dump(mode="json", exclude_unset=True).items() if value is not None
    }
