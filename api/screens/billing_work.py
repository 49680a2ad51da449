"""The exceptions of a period one after another: which ones, in which order, and which comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from api import paging
from api.access.areas import Areas
from api.billing.lists import Filters, chosen
from api.billing.spoken import amount
from api.paging import Page
from api.parameters import Cursor, Strict, Word
from metering.quantities import UNITS
from registry.books import CustomerClass, Medium
from registry.models_billing import BillingTotal

_TOTAL: Final = BillingTotal.__table__
_COLUMNS: Final = (
    *("usage_point_id", "account_number", "customer_class", "medium", "district", "state", "cause", "quantity"),
    *("consumption", "close_id"),
)
View = Literal["todo", "doubtful", "missing", "reread", "billed", "excluded", "all"]
VIEWS: Final = ("todo", "doubtful", "missing", "reread", "billed", "excluded", "all")


class Worklist(Strict):
    """Which totals are worked on; an empty field narrows nothing. search: a usage point or an account number."""

    view: View = "todo"
    cause: Word | Literal[""] = ""
    customer_class: CustomerClass | Literal[""] = ""
    medium: Medium | Literal[""] = ""
    district: Word | Literal[""] = ""
    search: Word | Literal[""] = ""

    def address(self) -> str:
        """Return what stands behind the question mark, without what narrows nothing."""
        own = {name: getattr(self, name) for name in Worklist.model_fields}
        return urlencode({name: value for name, value in own.items() if value and (name, value) != ("view", "todo")})


class WorklistQuery(Worklist):
    """The same as a page asks for it. done: what was done with `of` just before; last: and no other one follows."""

    cursor: Cursor | None = None
    done: Literal["accept", "reread", "reading", "adjusted", "refreshed"] | None = None
    of: Word | Literal[""] = ""
    last: Literal["yes"] | None = None


def worklist_of(text: str) -> Worklist:
    """Return the worklist that a form carries along; everything for one that nobody of ours wrote."""
    try:
        return Worklist.model_validate(dict(parse_qsl(text, max_num_fields=len(Worklist.model_fields))))
    except (ValidationError, ValueError):
        return Worklist()


def _wanted(areas: Areas, period: str, work: Worklist) -> sa.ColumnElement[bool]:
    found = [
        chosen(
            areas,
            Filters(
                period=period,
                cause=work.cause or None,
                customer_class=work.customer_class or None,
                medium=work.medium or None,
                district=work.district or None,
            ),
        )
    ]
    if work.view in ("todo", "doubtful", "missing", "reread"):
        states = {"todo": ("doubtful", "missing"), "reread": ("doubtful",)}.get(work.view, (work.view,))
        sent_back = _TOTAL.c.cause == "reread"
        found += [_TOTAL.c.close_id.is_(None), _TOTAL.c.state.in_(states)]
        found += [sent_back if work.view == "reread" else sa.not_(sent_back)]
    elif work.view != "all":
        found.append(_TOTAL.c.state == work.view)
    if work.search:
        found.append(sa.or_(_TOTAL.c.usage_point_id == work.search, _TOTAL.c.account_number == work.search))
    return sa.and_(*found)


def page(
    connection: Connection, areas: Areas, period: str, work: Worklist, *, limit: int, cursor: str | None
) -> Page[Mapping[str, Any]]:
    """Return a page of totals by usage point."""
    after = paging.text_key("worklist", cursor) or ""
    wanted = sa.select(*(_TOTAL.c[name] for name in _COLUMNS)).where(_wanted(areas, period, work))
    wanted = wanted.where(_TOTAL.c.usage_point_id > after).order_by(_TOTAL.c.usage_point_id).limit(limit + 1)
    rows = [
        {**row, "used": amount(row["consumption"]), "unit": UNITS.get(row["quantity"], "")}
        for row in connection.execute(wanted).mappings()
    ]
    return paging.page_of(rows, limit, "worklist", lambda row: row["usage_point_id"])


def next_behind(connection: Connection, areas: Areas, period: str, work: Worklist, after: str) -> str | None:
    """Return the usage point that comes next, None behind the last one."""
    wanted = sa.select(_TOTAL.c.usage_point_id).where(_wanted(areas, period, work))
    return connection.execute(
        wanted.where(_TOTAL.c.usage_point_id > after).order_by(_TOTAL.c.usage_point_id).limit(1)
    ).scalar()
