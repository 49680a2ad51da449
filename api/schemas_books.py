"""What goes over the wire about the books: installations, customers, manual readings, imports, decisions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.parameters import Moment, clean
from api.schemas import Answer, At, NextCursor
from api.schemas_access import Body
from metering.quantities import Quantity, to_micro
from registry.books import CustomerClass


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("moment", "must be a time with offset such as 2026-03-01T00:00:00Z, as text")
    return value


def _index(value: Any) -> Any:
    if not isinstance(value, str):
        raise PydanticCustomError("index", 'must be a decimal number as text, such as "1234.567"')
    try:
        return to_micro(value)
    except ValueError as error:
        raise PydanticCustomError("index", "{why}", {"why": str(error)}) from None


When = Annotated[Moment, BeforeValidator(_text)]
Index = Annotated[
    int,
    BeforeValidator(_index, json_schema_input_type=str),
    Field(description="Index 表底数 as a decimal string of the natural unit.", examples=["1234.567"]),
]
Id = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]
Note = Annotated[str, Field(max_length=500, description="Why; it stays in the books."), AfterValidator(clean)]
Reason = Annotated[str, Field(min_length=1, max_length=500, description="Why, in words."), AfterValidator(clean)]


class InstallIn(Body):
    """A meter comes to this usage point."""

    meter: Id
    at: When
    start_index: Index | None = None
    beside: bool = Field(False, description="Other meters stay there too.")
    note: Note = ""


class ExchangeIn(Body):
    """换表. kind temporary puts in a test meter, test_return takes it out again."""

    old_meter: Id
    new_meter: Id
    at: When
    final_index: Index
    start_index: Index
    kind: Literal["exchange", "temporary", "test_return"] = "exchange"
    serial: Annotated[str, Field(max_length=64), AfterValidator(clean)] = ""
    digits: int | None = Field(None, ge=1, le=12, description="Of the new meter, when it is new to the books.")
    note: Note = ""


class RemovalIn(Body):
    """拆表: the meter goes, nothing comes."""

    meter: Id
    at: When
    final_index: Index
    note: Note = ""


class SealIn(Body):
    """封表, or opened again."""

    meter: Id
    at: When
    index: Index | None = None
    open_again: bool = False
    note: Note = ""


class OpeningIn(Body):
    """Opening index of an old system."""

    meter: Id
    at: When
    index: Index
    note: Note = ""


class CustomerIn(Body):
    """Change of customer 过户: the final reading of every meter there splits the total."""

    account_number: Id
    at: When
    indexes: dict[str, Index] = Field(max_length=50, description="Meter -> index.")
    note: Note = ""


class ClassIn(Body):
    """Another customer class 用户类别: periods whose reading day lies before keep the class that they had."""

    customer_class: CustomerClass = Field(examples=["commercial"])
    at: When
    note: Note = ""


class UndoIn(Body):
    """Strike a wrong entry out; it stays visible."""

    note: Reason


class ManualReadingIn(Body):
    """A reading that a person made."""

    read_at: When
    values: dict[Quantity, Index] = Field(min_length=1, max_length=21)
    person: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(clean)]
    reason: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")] = "manual"
    note: Note = ""


class DecisionIn(Body):
    """Why a quarantined row is adopted or discarded."""

    reason: Reason


class PostIn(Body):
    """What a clerk knowingly accepts."""

    accept_doubtful: bool = False
    leave_bad: bool = False
    note: Note = ""


class SendBackIn(Body):
    """Meters that are read again."""

    meters: list[Id] = Field(min_length=1, max_length=1000)


class EntryOut(Answer):
    """One entry of the books. struck_by: the entry that struck it out."""

    id: int
    kind: str = Field(examples=["exchange"])
    meter: str
    at: At
    recorded_at: At
    recorded_by: str
    note: str
    facts: dict[str, Any] = Field(description="What was said; indexes in 10⁻⁶ of the unit.")
    undoes: int | None
    struck_by: int | None


class StayOut(Answer):
    """A meter at the usage point."""

    meter: str
    from_at: At | None = Field(description="null: nobody knows.")
    to_at: At | None = Field(description="null: it is there now.")
    start_index: str | None
    final_index: str | None
    kind: str


class CustomerOut(Answer):
    """A customer at the usage point; indexes as decimal strings by meter."""

    account_number: str
    from_at: At | None
    to_at: At | None
    start_indexes: dict[str, str]
    final_indexes: dict[str, str]


class ClassOut(Answer):
    """A customer class of the usage point."""

    customer_class: str
    from_at: At | None
    to_at: At | None


class HistoryOut(Answer):
    """Everything the books say of a usage point; entries newest first, one page of them."""

    usage_point: str
    installations: list[StayOut]
    customers: list[CustomerOut]
    classes: list[ClassOut] = Field(description="Empty while the class never changed.")
    entries: list[EntryOut]
    next_cursor: NextCursor = None


class DoneOut(Answer):
    """Number of the new entry."""

    entry: int


class FateOut(Answer):
    """Where a posted reading is."""

    id: int
    state: Literal["waiting", "sent", "stored", "quarantined"]
    reason: str
    detail: str


class PreviewOut(Answer):
    """How an import batch stands."""

    batch: int
    kind: str
    state: str
    counts: dict[str, int] = Field(description="ok, doubt, reread, bad -> rows.")
    reasons: dict[str, int]
    expected: int = Field(description="Meters that were to be read by hand.")
    delivered: int


class ImportRowOut(Answer):
    """A row that is not simply good."""

    line: int
    verdict: str
    usage_point: str
    meter: str
    reason: str
    detail: str


class ImportRowPage(Answer):
    """Rows of a batch in the order of the file."""

    items: list[ImportRowOut]
    next_cursor: NextCursor = None


class PostedOut(Answer):
    """How many rows."""

    batch: int
    rows: int
