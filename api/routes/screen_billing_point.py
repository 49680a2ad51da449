"""/billing/{period}/points/{usage_point}: one total, and what a clerk does about it; then the next one comes up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import quote, urlencode

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.billing.close import propose_adjustment
from api.billing.desk import InBilling, PeriodPath, check_version
from api.billing.keep import refresh
from api.billing.load import Scope
from api.billing.settings import BillingSettings
from api.billing.why import Stretch, counts, why
from api.here import Here, InHere
from api.parameters import PointPath
from api.problems import ProblemError
from api.queries import billing, books
from api.replies import see_other
from api.routes.billing import meter_there
from api.routes.screen_parts import show
from api.screens.billing_point import PointView, point_view
from api.screens.billing_work import WorklistQuery, next_behind, worklist_of
from api.screens.frame import Times, attempt, texts_of
from api.screens.order_forms import FormError, moment_of, text_of
from metering.quantities import to_micro
from registry import billing_words, office
from registry.book_changes import BookError
from registry.models import Meter, UsagePoint
from registry.refusals import RefusedError

router = APIRouter(include_in_schema=False)
_STRETCHES: Final = 40
_LONGEST_NOTE: Final = 500
_LONGEST_ACCOUNT: Final = 2000
_LONGEST_CAUSE: Final = 48
CAUSES: Final = ("meter_test", "misread", "leak_behind_meter", "exchange_late", "other")
"""Why a closed total is changed by a person."""
Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AtPoint(Here):
    """Who asks for which total."""

    settings: BillingSettings
    period: str
    point: str


async def _at_point(here: InHere, settings: InBilling, period: PeriodPath, usage_point: PointPath) -> AtPoint:
    return AtPoint(here.request, here.house, here.caller, here.now, settings, period, usage_point)


InPlace = Annotated[AtPoint, Depends(_at_point)]


@router.get("/billing/{period}/points/{usage_point}")
async def point_page(here: InPlace, query: Annotated[WorklistQuery, Query()]) -> Response:
    """One total with everything that a clerk needs to decide. Registry and store fail each by itself."""
    return await _show(here, query)


async def _show(
    here: AtPoint, query: WorklistQuery, *, typed: Fields | None = None, refused: str = "", status: int = 200
) -> Response:
    house, caller, period, point, now = here.house, here.caller, here.period, here.point, here.now

    def look(connection: Connection) -> tuple[PointView, str | None]:
        following = next_behind(connection, caller.areas, period, query, point)
        return point_view(connection, caller, here.settings, point, period, now), following

    def ask(connection: Connection) -> list[Stretch]:
        return why(connection, house.store, point, period, now=now)[2]

    found, trouble = await attempt(house.read(look))
    view, following = found or (None, None)
    stretches, why_trouble = None, ""
    if view is not None:
        try:
            stretches, why_trouble = await attempt(house.read(ask))
        except RefusedError as error:
            why_trouble = str(error)
    return await show(
        here, "billing_point.html", period=period, point=point, view=view, following=following,
        query=query, address=query.address(), trouble=trouble, why_trouble=why_trouble,
        counted=counts(stretches or []), stretches=[s for s in stretches or [] if s.state != "received"][:_STRETCHES],
        typed=typed or {}, refused=refused, causes=CAUSES, local=Times(view.tz if view else "UTC"), status=status,
    )  # fmt: skip


@router.post("/billing/{period}/points/{usage_point}/decide")
async def decide(here: InPlace) -> Response:
    """Accept the total as it stands, or have the meter read again."""
    fields = await checked_fields(here.request)
    kind = fields.get("kind", "")

    def work(connection: Connection) -> str:
        _same_version(connection, here, fields)
        note = text_of(fields, "note", _LONGEST_NOTE)
        billing_words.decide(connection, here.caller, here.point, here.period, kind, now=here.now, note=note)
        return kind

    return await _act(here, fields, work)


@router.post("/billing/{period}/points/{usage_point}/readings")
async def manual_reading(here: InPlace) -> Response:
    """Enter a reading that a person made 手工抄表; it travels through the office's outbox to the store."""
    fields = await checked_fields(here.request)

    def work(connection: Connection) -> str:
        books.require_point(connection, here.caller, here.point)
        row = billing.require_total(connection, here.caller, here.point, here.period).total
        tz = connection.execute(sa.select(UsagePoint.tz).where(UsagePoint.id == here.point)).scalar_one()
        if (read_at := moment_of(fields, "read_at", Times(tz).zone)) is None:
            raise FormError("time")
        if row["close_id"] is not None:
            raise RefusedError("conflict", f"period {here.period} of {here.point} is closed; propose an adjustment")
        meter = meter_there(connection, here.point, fields.get("meter") or None, read_at)
        quantity = connection.execute(sa.select(Meter.quantity).where(Meter.id == meter)).scalar_one()
        values = {quantity: to_micro(fields.get("index", "").strip())}
        office.post_manual(
            connection, here.caller, meter, read_at=read_at, values=values,
            person=text_of(fields, "person", 80), note=text_of(fields, "note", _LONGEST_NOTE), now=here.now,
        )  # fmt: skip
        return "reading"

    return await _act(here, fields, work)


@router.post("/billing/{period}/points/{usage_point}/adjust")
async def adjust(here: InPlace) -> Response:
    """Propose a refund or an extra charge 退补 on a closed total."""
    fields = await checked_fields(here.request)

    def work(connection: Connection) -> str:
        books.require_point(connection, here.caller, here.point)
        cause = fields.get("cause", "")
        if cause not in CAUSES:
            raise RefusedError("invalid", "the cause must be one of the list")
        amount = to_micro(fields.get("amount", "").strip())
        propose_adjustment(
            connection, here.settings, here.caller, here.point, here.period, amount=amount, cause=cause,
            account=text_of(fields, "account", _LONGEST_ACCOUNT), now=here.now,
        )  # fmt: skip
        return "adjusted"

    return await _act(here, fields, work, stay=True)


@router.post("/billing/{period}/points/{usage_point}/refresh")
async def refresh_point(here: InPlace) -> Response:
    """Compute this total again from what is stored now."""
    fields = await checked_fields(here.request)
    await here.house.read(lambda c: books.require_point(c, here.caller, here.point))
    scope = Scope(points=(here.point,))
    await here.house.workers.run(
        lambda: refresh(here.house.database, here.house.store, here.settings, here.period, scope, now=here.now)
    )
    return _to(here, here.point, fields, "refreshed")


def _same_version(connection: Connection, here: AtPoint, fields: Fields) -> None:
    text = fields.get("version", "")
    wanted = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
    check_version(wanted, billing.require_total(connection, here.caller, here.point, here.period).total["version"])


async def _act(here: AtPoint, fields: Fields, work: Callable[[Connection], str], *, stay: bool = False) -> Response:
    """Do it and lead to the next exception; what was refused is said on this page, with what was typed."""
    t, list_of = texts_of(here.request), worklist_of(fields.get("list", ""))

    def inside(connection: Connection) -> tuple[str, str | None]:
        done = work(connection)
        if stay:
            return done, here.point
        return done, next_behind(connection, here.caller.areas, here.period, list_of, here.point)

    try:
        done, following = await here.house.write(inside)
    except FormError as error:
        values = error.values if error.key != "time" else {"name": t("billing.read_at")}
        said, status = t(f"order_refused.{error.key}", **values), 422
    except ProblemError as error:
        if error.status not in (409, 412):
            raise
        said, status = t("billing_refused.changed") if error.status == 412 else error.detail, error.status
    except BookError as error:
        said, status = error.message, 409
    except RefusedError as error:
        said, status = str(error), 409
    except ValueError as error:  # an index that is no number
        said, status = str(error), 422
    else:
        return _to(here, following, fields, done)
    query = WorklistQuery(**list_of.model_dump())
    return await _show(here, query, typed=fields, refused=said, status=status)


def _to(here: AtPoint, point: str | None, fields: Fields, done: str) -> Response:
    what = {"done": done, "of": here.point} | ({"last": "yes"} if point is None else {})
    pairs = filter(None, (worklist_of(fields.get("list", "")).address(), urlencode(what)))
    path = f"/billing/{here.period}" + (f"/points/{quote(point, safe='')}" if point is not None else "")
    return see_other(f"{path}?{'&'.join(pairs)}")
