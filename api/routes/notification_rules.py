"""/api/v1/notification-rules: who is told of what, when, and who is next when nobody answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import House, InHouse
from api.outbound import book
from api.parameters import Nothing
from api.preconditions import IfMatch, wanted_version, with_etag
from api.queries import outbound
from api.replies import reply
from api.routes.documented import answers
from api.routes.webhooks import problem_of
from api.schemas_outbound import RuleChangeIn, RuleIn, RuleOut, RulePage, values_of
from registry.models_outbound import NotificationRule

router = APIRouter(prefix="/api/v1/notification-rules", tags=["outbound"])

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The rule's id.", examples=[1])]


async def _done(house: House, work: Any) -> Any:
    try:
        return await house.write(work)
    except (book.UnknownError, book.StaleError, book.BookError) as error:
        raise problem_of(error) from error


@router.get("", summary="List notification rules", **answers(RulePage))
async def list_rules(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """All that lie in the caller's areas."""
    return reply(request, RulePage(items=await house.read(lambda c: outbound.rules(c, caller))), cached=False)


@router.post("", summary="Make a notification rule 通知规则", status_code=201, **answers(RuleOut, status=201))
async def create_rule(
    request: Request, house: InHouse, caller: InCaller, body: RuleIn, query: Annotated[Nothing, Query()]
) -> Response:
    """It counts from now on."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> RuleOut:
        number = book.create_rule(connection, caller, body.model_dump(mode="json"), now_ms=now)
        return outbound.rule(connection, caller, number)

    made = await _done(house, work)
    answer = with_etag(reply(request, made, cached=False), made.version)
    answer.status_code = 201
    answer.headers["location"] = f"/api/v1/notification-rules/{made.id}"
    return answer


@router.get("/{number}", summary="One notification rule", **answers(RuleOut))
async def one_rule(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Its ETag goes into If-Match."""
    try:
        found = await house.read(lambda c: outbound.rule(c, caller, number))
    except book.UnknownError as error:
        raise problem_of(error) from error
    return with_etag(reply(request, found, cached=False), found.version)


@router.patch("/{number}", summary="Change a notification rule", **answers(RuleOut))
async def change_rule(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: RuleChangeIn,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """What is planned already keeps the people it was planned for."""
    version, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> RuleOut:
        book.change(connection, caller, NotificationRule, number, values_of(body), now_ms=now, version=version)
        return outbound.rule(connection, caller, number)

    found = await _done(house, work)
    return with_etag(reply(request, found, cached=False), found.version)


@router.delete("/{number}", summary="Remove a notification rule", status_code=204)
async def delete_rule(
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """What it still had to tell goes with it."""
    version, now = wanted_version(if_match), house.clock.now_ms()
    await _done(house, lambda c: book.delete_rule(c, caller, number, now_ms=now, version=version))
    return Response(status_code=204)
