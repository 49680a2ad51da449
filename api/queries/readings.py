"""Readings of one meter from the store, page by page."""

from __future__ import annotations

from collections.abc import Sequence

from api import paging, words
from api.paging import Page
from api.schemas import ReadingOut
from metering.quantities import Quantity
from metering.reading import Reading
from metering.store import ReadingStore


def read_page(
    store: ReadingStore,
    meter: str,
    *,
    t0: int,
    t1: int,
    limit: int,
    quantities: Sequence[Quantity] | None = None,
    after: int | None = None,
) -> list[Reading]:
    """Return up to `limit` readings with t0 <= read_at < t1 [ms UTC] behind `after`, oldest first.

    quantities: only these, and only readings that carry one of them.
    """
    behind = None if after is None else (meter, after)
    found = store.range([meter], t0, t1, quantities=quantities, limit=limit, after=behind)
    return list(found)


def list_readings(
    store: ReadingStore,
    meter: str,
    *,
    t0: int,
    t1: int,
    limit: int,
    cursor: str | None,
    quantities: Sequence[Quantity] | None,
) -> Page[ReadingOut]:
    """Return one page of readings. The cursor is the last read_at: late rows neither repeat nor hide another one."""
    after = paging.number_key("readings", cursor)
    rows = read_page(store, meter, t0=t0, t1=t1, limit=limit + 1, quantities=quantities, after=after)
    page = paging.page_of(rows, limit, "readings", lambda row: row.read_at)
    return Page([words.reading(row) for row in page.items], page.next_cursor)
