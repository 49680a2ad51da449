"""What may stand in an address: strict types, and every refusal names the nearest thing that is allowed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import Path
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from api.problems import ParameterProblem, ProblemError, shown
from metering.clock import parse_rfc3339
from metering.quantities import Quantity
from metering.settings import nearest

MAX_LIMIT: Final = 1000
DEFAULT_LIMIT: Final = 100
END_OF_TIME: Final = 253_402_300_800_000
"""[ms UTC] the year 10000: behind every reading."""

_REPEATABLE: Final = frozenset({"quantity"})
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_LOST_PLUS: Final = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:\d\d)\Z", re.ASCII)
_TIME_HELP: Final = "must be a time with offset such as 2026-03-01T00:00:00Z or 2026-03-01T08:00:00%2B08:00"


class Strict(BaseModel):
    """Base of every route's query: a parameter that is not listed is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def clean(text: str) -> str:
    # str.isprintable also refuses U+2028 and lone surrogates; U+FFFD is what bytes that are not UTF-8 become
    if not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text:
        raise PydanticCustomError("unclean", "control characters and bytes that are not UTF-8 are refused")
    return text


def _moment(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = _LOST_PLUS.sub(r"\1+\2", value)  # a "+" in an address means a space; nothing else can stand there
    if not _RFC3339.fullmatch(text):
        raise PydanticCustomError("moment", _TIME_HELP)
    try:
        ms = parse_rfc3339(text.upper())
    except (ValueError, OverflowError):
        raise PydanticCustomError("moment", "no such date or time") from None
    if not 0 <= ms < END_OF_TIME:
        raise PydanticCustomError("moment", "must lie between 1970 and 9999")
    return ms


Word = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]
Moment = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-03-01T00:00:00Z"]}),
]
Day = Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$", examples=["2026-03-01"])]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Most items in one answer.")]
Cursor = Annotated[
    str,
    Field(max_length=400, pattern=r"^[A-Za-z0-9_-]+$", description="`next_cursor` of the page before."),
]
Quantities = Annotated[list[Quantity], Field(min_length=1, max_length=21)]

MeterPath = Annotated[
    str,
    Path(min_length=1, max_length=64, description="The meter's id.", examples=["G-0001"]),
    AfterValidator(clean),
]
PointPath = Annotated[
    str,
    Path(min_length=1, max_length=64, description="A usage point.", examples=["UP-1"]),
    AfterValidator(clean),
]
GatewayPath = Annotated[
    str,
    Path(min_length=1, max_length=48, description="The gateway's id.", examples=["gw-1"]),
    AfterValidator(clean),
]


class PageQuery(Strict):
    """Parameters of every list."""

    limit: Limit = DEFAULT_LIMIT
    cursor: Cursor | None = None


class Nothing(Strict):
    """The query of a route that takes none."""


def refuse_repeated(request: Request) -> None:
    """Refuse `?limit=1&limit=2`: parsers disagree on which one counts. Raises: ProblemError."""
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name in seen and name not in _REPEATABLE:
            fault = ParameterProblem(place="query", name=shown(name), value=shown(value), problem="stands twice")
            raise ProblemError(422, "invalid-parameter", f"{fault.name} stands twice", errors=[fault])
        seen.add(name)


def explain(error: RequestValidationError, request: Request) -> ProblemError:
    """Turn FastAPI's complaint into ours: all faults at once, in words."""
    faults = [_explain_one(fault, request) for fault in error.errors()]
    detail = "; ".join(f"{fault.name}: {fault.problem}" for fault in faults[:5])
    return ProblemError(422, "invalid-parameter", detail, errors=faults[:20])


def _explain_one(fault: Any, request: Request) -> ParameterProblem:
    place, *rest = fault["loc"]
    name = shown(rest[0]) if rest else str(place)
    value = fault.get("input")
    shown_value = shown(value) if isinstance(value, str | int) else None
    if fault["type"] == "extra_forbidden":
        problem = f"unknown parameter; {nearest(name, _known(request))}"
    elif fault["type"] == "literal_error":
        words = re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))
        problem = f"allowed: {', '.join(words)}; {nearest(shown(value), words)}"
    else:
        # a message of ours may quote what was sent: only our own words are templates
        words_of = _IN_WORDS.get(fault["type"])
        problem = words_of.format(**fault.get("ctx", {})) if words_of else shown(fault["msg"], most=300)
    return ParameterProblem(place=str(place), name=name, value=shown_value, problem=problem)


_IN_WORDS: Final = {
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_too_long": "must have {max_length} characters or fewer",
    "string_too_short": "must have {min_length} characters or more",
    "string_pattern_mismatch": "must match {pattern}",
    "missing": "is missing",
}


def _known(request: Request) -> list[str]:
    """Return the query parameters of the route that was asked."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return []
    names: list[str] = []
    for parameter in route.dependant.query_params:
        annotation = parameter.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names += [field.alias or name for name, field in annotation.model_fields.items()]
    return names
