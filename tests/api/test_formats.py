"""Cells of a spreadsheet that cannot run, numbers that stay numbers."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.formats import csv_lines, inert


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("＝1+1", "'＝1+1"),
        ("-5.25", "-5.25"),
        ("-5", "-5"),
        ("1011.5", "1011.5"),
        ("-", "'-"),
        ("-5e3", "'-5e3"),
        ("-٣", "'-٣"),
        ("G-0001", "G-0001"),
        ("", ""),
    ],
)
def test_a_formula_gets_an_apostrophe_and_a_number_does_not(cell: str, written: str) -> None:
    assert inert(cell) == written


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=5))
def test_every_cell_can_be_read_back_and_none_is_a_formula(cells: list[str]) -> None:
    text = csv_lines([cells, cells]).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [[inert(cell) for cell in cells]] * 2
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for row in rows for cell in row)
