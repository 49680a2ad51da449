"""What goes over the wire about the rules of billing, of validation, and corrections of readings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from api.parameters import clean
from api.schemas import Answer, At, NextCursor
from api.schemas_access import Body
from api.schemas_billing import Day, Decimal, Period
from api.schemas_books import Id, Index, Reason, When
from metering.quantities import Quantity
from registry.books import CustomerClass, Medium


class CalendarIn(Body):
    """Reading days of a customer class; what is left out stands for any."""

    customer_class: CustomerClass | Literal[""] = ""
    medium: Medium | Literal[""] = ""
    first_day: Annotated[int, Field(ge=1, le=28)]
    last_day: Annotated[int, Field(ge=1, le=28)]
    every: Literal[1, 2, 3, 4, 6, 12] = 1
    month: Annotated[int, Field(ge=1, le=12, description="One of the months when it is due.")] = 12
    from_period: Period | None = None
    to_period: Period | None = None


class CalendarOut(Answer):
    """A calendar. id: null for one of the manuals', in force where there is no other."""

    id: int | None
    customer_class: str
    medium: str
    first_day: int
    last_day: int
    every: int
    month: int
    from_period: str
    to_period: str
    created_by: str
    version: int


class CalendarPage(Answer):
    """Calendars of the utility, and the manuals' behind them."""

    items: list[CalendarOut]
    manuals: list[CalendarOut]


class EndIn(Body):
    """Until when a calendar counts."""

    last_period: Period


class ExtraDayIn(Body):
    """An extra reading day for a price change."""

    customer_class: CustomerClass | Literal[""] = ""
    medium: Medium | Literal[""] = ""
    day: Day
    reason: Annotated[str, Field(max_length=200), AfterValidator(clean)] = ""


class ExtraDayOut(Answer):
    """An extra reading day."""

    id: int
    customer_class: str
    medium: str
    day: str
    reason: str
    created_by: str


class ExtraDayPage(Answer):
    """Extra reading days."""

    items: list[ExtraDayOut]


class CalorificIn(Body):
    """What a cubic metre holds from a local day on [kWh/m³]."""

    district: Annotated[str, Field(max_length=64), AfterValidator(clean)] = ""
    from_day: Day
    value: Index


class CalorificOut(Answer):
    """A calorific value."""

    id: int
    district: str
    from_day: str
    value: Decimal
    created_by: str


class CalorificPage(Answer):
    """Calorific values by day."""

    items: list[CalorificOut]


class CorrectIn(Body):
    """A stored index is to be taken as another one, or (becomes null) as not read. The store keeps what came."""

    meter: Id
    read_at: When
    quantity: Quantity
    becomes: Index | None
    reason: Reason


class CorrectionOut(Answer):
    """A correction beside a reading."""

    id: int
    meter: str
    read_at: At
    quantity: str
    was: Decimal
    becomes: Decimal | None
    reason: str
    actor: str
    at: At
    withdrawn_at: At | None


class CorrectionPage(Answer):
    """Corrections, newest first."""

    items: list[CorrectionOut]
    next_cursor: NextCursor


class NumberOut(Answer):
    """The number of what was made."""

    id: int


class ValidationRuleIn(Body):
    """A new version of a rule. limits: those that change [s]; the others stay."""

    rule: Annotated[str, Field(min_length=1, max_length=32, examples=["clock_off"]), AfterValidator(clean)]
    valid_from: When = Field(description="Readings from this moment on; not before now.")
    limits: dict[str, Annotated[int, Field(strict=True, ge=0, le=2**31)]] = Field(
        default_factory=dict, max_length=10, examples=[{"most_s": 600}]
    )
    active: bool = Field(True, description="false lets the rule rest from then on.")
    reason: Reason


class ValidationRuleOut(Answer):
    """One version of a rule that readings are judged by."""

    rule: str = Field(examples=["clock_off"])
    version: int = Field(examples=[2])
    valid_from: At | None = Field(description="Time of the first reading that it judges; null for always.")
    active: bool
    limits: dict[str, int] = Field(description="[s]", examples=[{"most_s": 600}])
    author: str = Field(examples=["user:li.wei"])
    made_at: At | None
    reason: str


class ValidationRulePage(Answer):
    """Every version of every rule, oldest first; of two that a reading fits, the later one judges."""

    items: list[ValidationRuleOut]
