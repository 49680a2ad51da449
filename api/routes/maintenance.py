"""/api/v1/maintenance-windows: times in which alarms of a meter, bus, gateway or district are out of service."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.parameters import Nothing, PageQuery
from api.preconditions import IfMatch, wanted_version, with_etag
from api.problems import ProblemError, invalid, not_found, shown
from api.queries import findings
from api.replies import reply
from api.routes.documented import answers
from api.schemas_findings import WindowIn, WindowOut, WindowPage
from metering.clock import rfc3339
from registry import maintenance_book
from registry.maintenance_book import StaleWindowError, UnknownWindowError, WindowError

router = APIRouter(prefix="/api/v1/maintenance-windows", tags=["findings"])

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The window's id.", examples=[1])]


class WindowsQuery(PageQuery):
    """Filters of the list of windows."""

    active: Literal["true", "false"] = Field("false", description="Only those that last now.")


@router.get("", summary="List maintenance windows", **answers(WindowPage))
async def list_windows(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[WindowsQuery, Query()]
) -> Response:
    """Newest first, those of the past too."""
    now, only = house.clock.now_ms(), query.active == "true"
    page = await house.read(
        lambda c: findings.list_windows(
            c, areas=caller.areas, now_ms=now, active_only=only, limit=query.limit, cursor=query.cursor
        )
    )
    return reply(request, WindowPage(items=page.items, next_cursor=page.next_cursor))


@router.post("", summary="Open a maintenance window 检修窗口", status_code=201, **answers(WindowOut, status=201))
async def create_window(
    request: Request, house: InHouse, caller: InCaller, body: WindowIn, query: Annotated[Nothing, Query()]
) -> Response:
    """Alarms of the target are OOSRV from its beginning to its end, and return by themselves."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> WindowOut:
        number, _ = maintenance_book.open_window(
            connection,
            caller,
            scope=body.scope,
            target=body.target,
            from_at=now if body.from_ is None else body.from_,
            to_at=body.to,
            reason=body.reason,
            now_ms=now,
            longest_h=house.alarms.out_of_service_max_h,
        )
        return findings.one_window(connection, number, areas=caller.areas, now_ms=now)

    try:
        made = await house.write(work)
    except UnknownWindowError as error:
        raise invalid(
            "target", body.target, f"there is no {body.scope} {shown(body.target)!r}", place="body"
        ) from error
    except WindowError as error:
        raise invalid("to", rfc3339(body.to), str(error), place="body") from error
    answer = with_etag(reply(request, made, cached=False), made.version)
    answer.status_code = 201
    answer.headers["location"] = f"/api/v1/maintenance-windows/{made.id}"
    return answer


@router.get("/{number}", summary="One maintenance window", **answers(WindowOut))
async def one_window(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Its ETag goes into If-Match."""
    now = house.clock.now_ms()
    found = await house.read(lambda c: findings.one_window(c, number, areas=caller.areas, now_ms=now))
    return with_etag(reply(request, found, cached=False), found.version)


@router.post("/{number}/end", summary="End a maintenance window", **answers(WindowOut))
async def end_window(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """End it early, or cancel one that has not begun; its alarms return to service at once."""
    version, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> WindowOut:
        maintenance_book.end_window(connection, caller, number, now_ms=now, version=version)
        return findings.one_window(connection, number, areas=caller.areas, now_ms=now)

    try:
        found = await house.write(work)
    except UnknownWindowError as error:
        raise not_found("maintenance window", number) from error
    except StaleWindowError as error:
        raise ProblemError(412, "changed-meanwhile", str(error)) from error
    except WindowError as error:
        raise ProblemError(409, "not-permitted-now", str(error)) from error
    return with_etag(reply(request, found, cached=False), found.version)
