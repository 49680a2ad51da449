"""/api/v1/billing: reading days, extra reading days, calorific values. They hold in every area."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.billing import rule_book
from api.billing.calendars import Calendar, ExtraDay
from api.billing.desk import KeyHeader, NumberPath, once, require_all_areas, told
from api.house import InHouse
from api.parameters import Nothing
from api.preconditions import IfMatch, wanted_version
from api.problems import ProblemError
from api.queries import billing
from api.replies import reply
from api.routes.documented import answers
from api.schemas_billing_rules import (
    CalendarIn,
    CalendarPage,
    CalorificIn,
    CalorificPage,
    EndIn,
    ExtraDayIn,
    ExtraDayPage,
    NumberOut,
    ValidationRuleIn,
    ValidationRulePage,
)
from registry import validation_rules

router = APIRouter(prefix="/api/v1/billing", tags=["billing"])
NoQuery = Annotated[Nothing, Query()]


@router.get("/calendars", summary="Reading days 抄表日", **answers(CalendarPage))
async def list_calendars(request: Request, house: InHouse, query: NoQuery) -> Response:
    """The utility's calendars, and the manuals', which are in force where there is no other."""
    return reply(request, await house.read(lambda c: billing.calendars(rule_book.calendars(c))))


@router.post("/calendars", summary="Add a calendar", status_code=201, **answers(NumberOut, status=201))
async def add_calendar(
    house: InHouse, caller: InCaller, body: CalendarIn, query: NoQuery, key: KeyHeader = None
) -> Response:
    """It must not overlap another one of its class and medium, nor reach into a closed period."""
    require_all_areas(caller)
    now = house.clock.now_ms()
    facts = body.model_dump() | {"from_period": body.from_period or "", "to_period": body.to_period or ""}
    made = await once(
        house,
        caller,
        key,
        {"calendar": facts},
        lambda c: NumberOut(id=rule_book.add_calendar(c, caller, Calendar(**facts), now=now)),
    )
    return told(made, 201)


@router.post("/calendars/{number}/end", summary="End a calendar", **answers(CalendarPage))
async def end_calendar(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: EndIn,
    query: NoQuery,
    if_match: IfMatch = None,
) -> Response:
    """It counts up to and with a period, so that another one may follow."""
    require_all_areas(caller)
    wanted, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> CalendarPage:
        found = {row["id"]: row["version"] for row in rule_book.calendars(connection)}
        if wanted is not None and found.get(number, wanted) != wanted:
            raise ProblemError(412, "changed-meanwhile", f"it has version {found[number]} now; look again")
        rule_book.end_calendar(connection, caller, number, body.last_period, now=now)
        return billing.calendars(rule_book.calendars(connection))

    return reply(request, await house.write(work), cached=False)


@router.get("/validation-rules", summary="Rules of validation", **answers(ValidationRulePage))
async def list_validation_rules(request: Request, house: InHouse, query: NoQuery) -> Response:
    """What stored and arriving readings are doubted by, every version with its date, author and reason."""
    return reply(request, await house.read(lambda c: billing.validation_rules(validation_rules.told(c))))


@router.post("/validation-rules", summary="Change a rule of validation", status_code=201,
             **answers(ValidationRulePage, status=201))  # fmt: skip
async def change_validation_rule(
    house: InHouse, caller: InCaller, body: ValidationRuleIn, query: NoQuery, key: KeyHeader = None
) -> Response:
    """A new version for readings from a date on; what was judged before stays judged as it was."""
    require_all_areas(caller)
    now = house.clock.now_ms()

    def work(connection: Connection) -> ValidationRulePage:
        validation_rules.change_rule(
            connection, caller, body.rule, valid_from=body.valid_from, limits=body.limits, active=body.active,
            reason=body.reason, now=now,
        )  # fmt: skip
        return billing.validation_rules(validation_rules.told(connection))

    return told(await once(house, caller, key, {"validation_rule": body.model_dump()}, work), 201)


@router.get("/extra-days", summary="Extra reading days", **answers(ExtraDayPage))
async def list_extra_days(request: Request, house: InHouse, query: NoQuery) -> Response:
    """Days of a price change: a line more inside their period."""
    return reply(request, await house.read(billing.extra_days))


@router.post("/extra-days", summary="Add an extra reading day", status_code=201, **answers(NumberOut, status=201))
async def add_extra_day(
    house: InHouse, caller: InCaller, body: ExtraDayIn, query: NoQuery, key: KeyHeader = None
) -> Response:
    """It moves no period."""
    require_all_areas(caller)
    now = house.clock.now_ms()
    made = await once(
        house,
        caller,
        key,
        {"extra_day": body.model_dump()},
        lambda c: NumberOut(id=rule_book.add_extra_day(c, caller, ExtraDay(**body.model_dump()), now=now)),
    )
    return told(made, 201)


@router.get("/calorific-values", summary="Calorific values", **answers(CalorificPage))
async def list_calorific_values(request: Request, house: InHouse, query: NoQuery) -> Response:
    """What a cubic metre holds, from a local day on."""
    return reply(request, await house.read(billing.calorific_values))


@router.post("/calorific-values", summary="Set a calorific value", status_code=201, **answers(NumberOut, status=201))
async def set_calorific_value(
    house: InHouse, caller: InCaller, body: CalorificIn, query: NoQuery, key: KeyHeader = None
) -> Response:
    """From a day on, in a district or everywhere; a value is never overwritten."""
    require_all_areas(caller)
    now = house.clock.now_ms()

    def work(connection: Connection) -> NumberOut:
        return NumberOut(
            id=rule_book.set_calorific_value(
                connection, caller, body.from_day, body.value, now=now, district=body.district
            )
        )

    return told(await once(house, caller, key, {"calorific_value": body.model_dump()}, work), 201)
