"""What goes over the wire about thresholds, their changes, background jobs and shifts."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictFloat, StrictInt, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.parameters import Word, clean
from api.schemas import Answer, At, NextCursor
from api.schemas_access import Body
from api.schemas_findings import Said, When

Share = Annotated[float, Field(examples=[0.02])]
LongNote = Annotated[str, Field(max_length=2000), AfterValidator(clean)]


def _day(value: Any) -> Any:
    if isinstance(value, str):
        try:
            if len(value) == 10:
                return date.fromisoformat(value)
        except ValueError:
            pass
        raise PydanticCustomError("day", "must be a date such as 2026-04-01")
    if isinstance(value, date):
        return value
    raise PydanticCustomError("day", "must be a date such as 2026-04-01, as text")


LocalDay = Annotated[
    date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-04-01"]})
]


class ThresholdOut(Answer):
    """One threshold in force."""

    name: str = Field(examples=["zero_use.min_days"])
    value: float = Field(examples=[7.0])
    origin: str = Field(description="built-in, an entry of a file, or the number of a change.", examples=["change 3"])
    since: str | None = Field(description="Local day from which on it counts; null for always.")
    one_for_all: bool = Field(description="One for all meters and dates; only the settings' file changes it.")


class ThresholdsOut(Answer):
    """The thresholds of a meter, or of all meters of a medium and class, on a local day."""

    on: str = Field(examples=["2026-03-01"])
    version: str = Field(description="What findings of this day carry.", examples=["1+change-3"])
    medium: str
    customer_class: str
    meter: str
    items: list[ThresholdOut]


class ScopeIn(Body):
    """Which meters a change is for; all of those named must fit, none named is all meters."""

    medium: Annotated[str, Field(max_length=16, examples=["gas"]), AfterValidator(clean)] = ""
    customer_class: Annotated[
        str, Field(alias="class", max_length=32, examples=["restaurant"]), AfterValidator(clean)
    ] = ""
    meter: Annotated[str, Field(max_length=64), AfterValidator(clean)] = ""

    def words(self) -> dict[str, str]:
        """Return what is named."""
        named = {"medium": self.medium, "class": self.customer_class, "meter": self.meter}
        return {name: value for name, value in named.items() if value}


Values = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)], StrictInt | StrictFloat],
    Field(min_length=1, max_length=50, examples=[{"zero_use.min_days": 10}]),
]


class ChangeIn(Body):
    """A proposal."""

    effective: LocalDay = Field(description="Local day from whose midnight on it counts; a coming one.")
    scope: ScopeIn = ScopeIn()
    values: Values
    reason: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(clean)]


class ChangeOut(Answer):
    """One change of thresholds."""

    id: int = Field(examples=[3])
    state: str = Field(description="proposed, tested, confirmed or cancelled.", examples=["tested"])
    effective: str = Field(description="Local day from whose midnight on it counts.", examples=["2026-04-01"])
    effective_at: At
    in_force: bool = Field(description="Confirmed, and its date has come.")
    scope: dict[str, str] = Field(examples=[{"class": "restaurant"}])
    values: dict[str, float]
    reason: str
    author: str = Field(examples=["user:li.wei"])
    created_at: At
    job: int | None = Field(description="The job that tries it on the past.")
    backtest: dict[str, Any] | None = Field(description="What the past would have looked like with it.")
    decided_by: str
    decided_at: At | None
    note: str
    accepted_flagged: int | None = Field(description="The number of meters that the decider accepted to be flagged.")
    version: int = Field(description="Rises with every change; its ETag is the same number.")


class ChangePage(Answer):
    """Changes of thresholds, newest first."""

    items: list[ChangeOut]
    next_cursor: NextCursor


class BacktestIn(Body):
    """The period to try a change on; by default the last 30 days, and the 60 before them to learn from."""

    from_: When | None = Field(None, alias="from")
    to: When | None = None
    most_meters: Annotated[int, Field(strict=True, ge=10, le=20_000)] = Field(
        2000, description="In a larger city so many meters are tried, chosen by a hash of their ids."
    )


class ConfirmIn(Body):
    """A decision."""

    note: Annotated[str, Field(max_length=500), AfterValidator(clean)] = ""
    accept_flagged: Annotated[int, Field(strict=True, ge=0, le=2**62)] | None = Field(
        None, description="would_flag of the back-test, said by whoever wants the change although it flags so many."
    )


class CancelIn(Body):
    """Why it is given up."""

    note: Annotated[str, Field(max_length=500), AfterValidator(clean)] = ""


# --- jobs -----------------------------------------------------------------------------------------------------------


class JobOut(Answer):
    """One piece of long work."""

    id: int = Field(examples=[5])
    kind: str = Field(examples=["thresholds.backtest"])
    title: str
    state: str = Field(
        description="queued, running, done, failed, cancelled, interrupted or expired.", examples=["running"]
    )
    by: str = Field(examples=["user:li.wei"])
    created_at: At
    started_at: At | None
    finished_at: At | None
    progress: int = Field(description="[%]", examples=[40])
    progress_text: str
    cancel_asked: bool
    outcome: dict[str, Any] | None
    problem: str = Field(description="Why it failed or was interrupted; empty when it was not.")
    result_name: str = Field(description="File name of the result; empty without one.")
    result_type: str
    result_bytes: int | None
    result_sha256: str
    expires_at: At | None = Field(description="Until when the result can be downloaded.")


class JobPage(Answer):
    """Jobs, newest first."""

    items: list[JobOut]
    next_cursor: NextCursor


# --- shifts ---------------------------------------------------------------------------------------------------------


class ShiftIn(Body):
    """The first shift of a desk; later ones begin by taking over."""

    desk: Word = Field("control-room", max_length=48, description="The desk of the control room.")
    note: LongNote = ""


class ShiftNoteIn(Body):
    """A line for the shift log."""

    note: Said


class SignIn(Body):
    """What the one who signs has to say."""

    note: LongNote = ""


class ShiftOut(Answer):
    """One shift 班次 of one desk."""

    id: int = Field(examples=[1])
    desk: str = Field(examples=["control-room"])
    state: str = Field(description="open, handed (signed by the one who leaves) or closed (by both).")
    districts: list[str] = Field(description='What the desk watches; ["*"] is all.')
    on_duty: str = Field(examples=["user:li.wei"])
    started_at: At
    previous: int | None = Field(description="The shift before.")
    handed_at: At | None
    handed_note: str
    taken_by: str
    taken_at: At | None
    taken_note: str
    version: int = Field(description="Rises with every change; its ETag is the same number.")


class ShiftPage(Answer):
    """Shifts, newest first."""

    items: list[ShiftOut]
    next_cursor: NextCursor


class ShiftDetail(ShiftOut):
    """One shift with its log: while it is open as it stands now, afterwards as it was signed."""

    content: dict[str, Any] = Field(description="Open alarms, what was done, notes.")
    sha256: str = Field(description="Of the signed content; both signatures in the audit name it. Empty while open.")
    intact: bool = Field(description="The content is the one that was signed.")
