"""Cursors come back as they went, and nothing else comes in."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import paging
from api.problems import ProblemError

# what callers may send at all, see `parameters.Cursor`
CURSORS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=60)


def sealed(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@given(st.text(min_size=1, max_size=64).filter(str.isprintable))
def test_a_text_key_comes_back(key: str) -> None:
    assert paging.text_key("meters", paging.encode("meters", key)) == key


@given(st.integers(0, 2**63 - 1))
def test_a_number_key_comes_back(key: int) -> None:
    assert paging.number_key("events", paging.encode("events", key)) == key


@given(CURSORS)
def test_any_other_text_is_refused_by_name(cursor: str) -> None:
    for decode in (paging.text_key, paging.number_key):
        with pytest.raises(ProblemError, match="is not a cursor of this list"):
            decode("meters", cursor)


@pytest.mark.parametrize(
    "inside",
    [
        b'["meters","a\\u0000b"]',
        b'["meters",5]',
        b'["meters"]',
        b'["meters","a","b"]',
        b'{"meters":"a"}',
        b"\xff",
        b"5",
    ],
)
def test_a_forged_text_cursor_is_refused(inside: bytes) -> None:
    with pytest.raises(ProblemError):
        paging.text_key("meters", sealed(inside))


@pytest.mark.parametrize("number", ["-1", str(2**63), "1.5", "1e3", "true", "null", '"5"', "9" * 300])
def test_a_forged_number_cursor_is_refused(number: str) -> None:
    with pytest.raises(ProblemError):
        paging.number_key("events", sealed(f'["events",{number}]'.encode()))


def test_the_row_too_many_makes_the_cursor_and_is_left_out() -> None:
    page = paging.page_of(["a", "b", "c"], 2, "meters", str)
    assert page.items == ["a", "b"]
    assert paging.text_key("meters", page.next_cursor) == "b"
    assert paging.page_of(["a", "b"], 2, "meters", str).next_cursor is None
    assert paging.page_of([], 2, "meters", str).next_cursor is None
