"""Times with an offset, and nothing but."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from api.parameters import Day, Moment, Word, explain

MOMENT: TypeAdapter[int] = TypeAdapter(Annotated[int, Moment.__metadata__[0]])
WORD: TypeAdapter[str] = TypeAdapter(Word)
DAY: TypeAdapter[str] = TypeAdapter(Day)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-03-01T00:00:00Z", 1_772_323_200_000),
        ("2026-03-01T08:00:00+08:00", 1_772_323_200_000),
        ("2026-03-01T08:00:00 08:00", 1_772_323_200_000),
        ("2026-02-28T19:00:00-05:00", 1_772_323_200_000),
        ("2026-03-01t00:00:00.5z", 1_772_323_200_500),
        ("2026-03-01T00:00:00.123456789Z", 1_772_323_200_123),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_a_time_with_offset_is_taken_to_the_millisecond(text: str, ms: int) -> None:
    assert MOMENT.validate_python(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-03-01",
        "2026-03-01T00:00Z",
        "2026-03-01T00:00:00",
        "2026-03-01 00:00:00Z",
        "20260301T000000Z",
        "2026-W09-7T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-03-01T24:00:01Z",
        "2026-03-01T00:00:60Z",
        "2026-03-01T00:00:00+99:00",
        "٢٠٢٦-03-01T00:00:00Z",
        "2026-03-01T00:00:00Z\n",
        "1772323200",
        "1" * 1000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(text)


@pytest.mark.parametrize("text", ["a\x00b", "a\nb", "\x7f", "a\u2028b", chr(0xD800), "\ufffd", "", "x" * 65])
def test_a_word_holds_no_control_character_and_is_not_long(text: str) -> None:
    with pytest.raises(ValidationError):
        WORD.validate_python(text)


@pytest.mark.parametrize("text", ["G-0001", "表计 7", "' OR 1=1 --", "<b>"])
def test_a_word_may_hold_whatever_people_write(text: str) -> None:
    assert WORD.validate_python(text) == text


@pytest.mark.parametrize("text", ["2026-3-1", "2026-00-10", "2026-13-01", "2026-01-32", "26-01-01", "2026-01-01\n"])
def test_a_day_is_written_in_full(text: str) -> None:
    with pytest.raises(ValidationError):
        DAY.validate_python(text)


def test_braces_in_what_was_sent_are_no_template_of_the_answer() -> None:
    fault = {"type": "index", "loc": ("body", "index"), "msg": "not a number: '}{0.__class__}'", "ctx": {"why": "x"}}
    told = explain(RequestValidationError([fault]), Request({"type": "http"}))
    assert told.errors[0].problem == "not a number: '}{0.__class__}'"
