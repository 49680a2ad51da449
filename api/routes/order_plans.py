"""Follow-up calls 回访, safety inspections 安检 of a year, and the precision of the rules."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import paging, words
from api.access.areas import in_areas
from api.access.caller import InCaller
from api.house import House, InHouse
from api.orders import follow_up, inspections
from api.orders.lifecycle import StepError
from api.orders.precision import precision
from api.paging import Page
from api.parameters import Moment, Nothing, PageQuery, Strict, Word
from api.problems import not_found
from api.queries import work_orders
from api.replies import reply
from api.routes.documented import answers
from api.routes.order_parts import NumberPath, do
from api.schemas_work_orders import (
    DistrictPlan,
    FollowUpIn,
    FollowUpOut,
    FollowUpPage,
    PlanOut,
    PlanYearIn,
    PrecisionOut,
    PrecisionsOut,
)
from registry import audit
from registry.models_work_orders import FollowUp, InspectionPlan, WorkOrder
from registry.roles import Actor

router = APIRouter(prefix="/api/v1", tags=["work orders"])
NoQuery = Annotated[Nothing, Query()]
YearPath = Annotated[int, Path(ge=2000, le=9998, description="The year.", examples=[2026])]


class CallsQuery(PageQuery):
    """Filters of the list of calls."""

    due: Literal["now", "later", "done", "all"] = Field(
        "now", description="now: their days have begun and nobody has called; later; done; all."
    )
    district: Word | None = None


@router.get("/follow-ups", summary="Follow-up calls 回访", **answers(FollowUpPage))
async def list_follow_ups(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[CallsQuery, Query()]
) -> Response:
    """By order, the oldest first."""
    now = house.clock.now_ms()
    page = await house.read(lambda c: _calls(c, caller, query, now))
    return reply(request, FollowUpPage(items=page.items, next_cursor=page.next_cursor))


def _calls(connection: Connection, caller: Actor, query: CallsQuery, now: int) -> Page[FollowUpOut]:
    after = paging.number_key("follow-ups", query.cursor)
    waits = FollowUp.asked_at.is_(None)
    condition = {
        "now": sa.and_(waits, FollowUp.begins_at <= now),
        "later": sa.and_(waits, FollowUp.begins_at > now),
        "done": sa.not_(waits),
        "all": sa.true(),
    }[query.due]
    statement = (
        sa.select(FollowUp, WorkOrder.type, WorkOrder.district)
        .join(WorkOrder, WorkOrder.id == FollowUp.order_id)
        .where(condition, in_areas(caller.areas, WorkOrder.district))
    )
    if query.district is not None:
        statement = statement.where(WorkOrder.district == query.district)
    if after is not None:
        statement = statement.where(FollowUp.order_id > after)
    rows = connection.execute(statement.order_by(FollowUp.order_id).limit(query.limit + 1)).all()
    return paging.page_of([_call(row) for row in rows], query.limit, "follow-ups", lambda row: row.order)


def _call(row: Any) -> FollowUpOut:
    facts = row._mapping
    same = ("type", "district", "stratum", "asked_by", "satisfied", "note")
    return FollowUpOut(
        order=facts["order_id"],
        **{name: facts[name] for name in same},
        **{name: words.moment(facts[name]) for name in ("begins_at", "ends_at", "asked_at")},
    )


@router.post("/follow-ups/{number}/answer", summary="Record a follow-up call", **answers(FollowUpOut))
async def answer_follow_up(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: FollowUpIn, query: NoQuery
) -> Response:
    """Not by whoever did the work."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> FollowUpOut:
        work_orders.order_of(connection, caller, number)
        follow_up.answer(connection, caller, number, satisfied=body.satisfied, note=body.note, now_ms=now)
        row = connection.execute(
            sa.select(FollowUp, WorkOrder.type, WorkOrder.district)
            .join(WorkOrder, WorkOrder.id == FollowUp.order_id)
            .where(FollowUp.order_id == number)
        ).one()
        return _call(row)

    return reply(request, await do(request, house, caller, work), cached=False)


@router.get("/inspection-plans/{year}", summary="Safety inspections 安检 of a year", **answers(PlanOut))
async def one_inspection_plan(
    request: Request, house: InHouse, caller: InCaller, year: YearPath, query: NoQuery
) -> Response:
    """How many are planned, opened and finished, by district."""
    return reply(request, await house.read(lambda c: _plan(c, caller, year)))


@router.post("/inspection-plans", summary="Plan a year's safety inspections", status_code=201,
             **answers(PlanOut, status=201))  # fmt: skip
async def plan_inspections(
    request: Request, house: InHouse, caller: InCaller, body: PlanYearIn, query: NoQuery
) -> Response:
    """Every place that is due and not planned gets a working day; the house does this by itself for each year."""
    if caller.areas is not None:
        raise not_found("inspection plan", body.year)
    now = house.clock.now_ms()
    today = datetime.fromtimestamp(now / 1000, UTC).astimezone(ZoneInfo(house.orders.tz)).date()
    if body.year < today.year:
        raise not_found("year to plan", body.year)

    def work(connection: Connection) -> PlanOut:
        try:
            made = inspections.plan_year(
                connection, body.year, first=max(today, date(body.year, 1, 1)), calendar=house.orders.calendar(),
                cycle=house.orders.cycle(),
            )  # fmt: skip
        except ValueError as error:
            raise StepError("impossible", str(error)) from error
        audit.append(
            connection, caller, "inspection_plan.make", "inspection_plan", body.year, at=now, after={"places": made}
        )
        return _plan(connection, caller, body.year)

    made = reply(request, await do(request, house, caller, work), cached=False)
    made.status_code = 201
    return made


def _plan(connection: Connection, caller: Actor, year: int) -> PlanOut:
    rows = connection.execute(
        sa.select(
            InspectionPlan.district,
            sa.func.count(),
            sa.func.count(InspectionPlan.order_id),
            sa.func.count(WorkOrder.finished_at),
        )
        .select_from(InspectionPlan)
        .outerjoin(WorkOrder, WorkOrder.id == InspectionPlan.order_id)
        .where(InspectionPlan.year == year, in_areas(caller.areas, InspectionPlan.district))
        .group_by(InspectionPlan.district)
        .order_by(InspectionPlan.district)
    ).all()
    districts = [DistrictPlan(district=row[0], planned=row[1], opened=row[2], finished=row[3]) for row in rows]
    return PlanOut(
        year=year,
        planned=sum(line.planned for line in districts),
        opened=sum(line.opened for line in districts),
        finished=sum(line.finished for line in districts),
        districts=districts,
    )


class PrecisionQuery(Strict):
    """Which findings count."""

    rule: Word | None = None
    from_: Moment | None = Field(None, alias="from", description="First detected_at, included.")
    to: Moment | None = Field(None, description="Last detected_at, not included.")


@router.get("/rules/precision", summary="How often the rules were right", **answers(PrecisionsOut))
async def rules_precision(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[PrecisionQuery, Query()]
) -> Response:
    """From what the crews found: by rule, customer class and month."""
    return reply(request, PrecisionsOut(items=await house.read(lambda c: _precision(c, house, caller, query))))


def _precision(connection: Connection, house: House, caller: Actor, query: PrecisionQuery) -> list[PrecisionOut]:
    found = precision(
        connection, areas=caller.areas, rule=query.rule, since_ms=query.from_, until_ms=query.to, tz=house.orders.tz
    )
    names = ("rule", "kind", "customer_class", "month", "precision", "true", "false", "other_cause", "not_looked")
    return [PrecisionOut(**{name: getattr(line, name) for name in names}) for line in found]
