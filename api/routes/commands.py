"""Commands to gateways: read a meter now, set clocks, and what became of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Path, Query, Request
from starlette.responses import Response

from api.access.caller import InCaller
from api.command_office import nonce_for, required
from api.house import InHouse
from api.parameters import GatewayPath, MeterPath, Nothing, PageQuery, Word
from api.queries import commands
from api.replies import JSON, reply
from api.routes.documented import answers
from api.schemas import Answer
from api.schemas_commands import CommandDetail, CommandOut, CommandPage, CommandsOut, CommandState, GatewayClocks

router = APIRouter(prefix="/api/v1", tags=["commands"])
NoncePath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="The command's nonce.")]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=200,
        description="The same key again returns the command that it made before.",
    ),
]  # fmt: skip


class CommandsQuery(PageQuery):
    """Filters of the list of commands; several must all hold."""

    gateway: Word | None = None
    meter: Word | None = None
    state: CommandState | None = None


def _accepted(model: type[Answer]) -> dict[str, object]:
    found = answers(model)
    return {**found, "status_code": 202, "responses": {202: found["responses"][200]}}


@router.post("/meters/{meter_id}/read-now", summary="Read a meter now", **_accepted(CommandOut))  # type: ignore[arg-type]  # FastAPI's many keywords
async def read_now(
    house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[Nothing, Query()], key: KeyHeader = None
) -> Response:
    """The gateway reads the meter before the sweep of its bus; the reading comes the way of all readings."""
    office, nonce, at = required(house.command_office), nonce_for(caller, key), house.clock.now_ms()
    made = await house.write(lambda c: commands.read_meter(c, caller, office, meter_id, nonce=nonce, at=at))
    return _made(made, made.nonce)


@router.post("/meters/{meter_id}/set-clock", summary="Set a meter's clock", **_accepted(CommandOut))  # type: ignore[arg-type]  # as above
async def set_meter_clock(
    house: InHouse, caller: InCaller, meter_id: MeterPath, query: Annotated[Nothing, Query()], key: KeyHeader = None
) -> Response:
    """The meter gets the gateway's time in its own zone, and is read back. DL/T 645 sets all meters of its bus."""
    office, nonce, at = required(house.command_office), nonce_for(caller, key), house.clock.now_ms()
    made = await house.write(lambda c: commands.set_meter_clock(c, caller, office, meter_id, nonce=nonce, at=at))
    return _made(made, made.nonce)


@router.post("/gateways/{gateway_id}/set-clock", summary="Set a gateway's clocks", **_accepted(CommandsOut))  # type: ignore[arg-type]  # as above
async def set_gateway_clocks(
    house: InHouse,
    caller: InCaller,
    gateway_id: GatewayPath,
    query: Annotated[Nothing, Query()],
    body: Annotated[GatewayClocks | None, Body()] = None,
    key: KeyHeader = None,
) -> Response:
    """Every meter that takes a time, of the gateway or one bus of it, as far as the caller may see them."""
    office, nonce, at = required(house.command_office), nonce_for(caller, key), house.clock.now_ms()
    bus = (body.bus if body else None) or ""
    made = await house.write(
        lambda c: commands.set_gateway_clocks(c, caller, office, gateway_id, bus=bus, nonce=nonce, at=at)
    )
    return _made(CommandsOut(items=made), made[0].nonce)


@router.get("/commands", summary="List commands", **answers(CommandPage))
async def list_commands(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[CommandsQuery, Query()]
) -> Response:
    """Commands, newest first."""
    page = await house.read(
        lambda c: commands.list_commands(
            c, caller, gateway=query.gateway, meter=query.meter, state=query.state, limit=query.limit,
            cursor=query.cursor,
        )
    )  # fmt: skip
    return reply(request, CommandPage(items=page.items, next_cursor=page.next_cursor))


@router.get("/commands/{nonce}", summary="One command", **answers(CommandDetail))
async def one_command(
    request: Request, house: InHouse, caller: InCaller, nonce: NoncePath, query: Annotated[Nothing, Query()]
) -> Response:
    """Its state, and what the gateway said of each meter."""
    return reply(request, await house.read(lambda c: commands.one_command(c, caller, nonce)))


def _made(model: Answer, nonce: str) -> Response:
    headers = {"location": f"/api/v1/commands/{nonce}", "cache-control": "no-store"}
    return Response(model.model_dump_json(by_alias=True).encode(), 202, headers, JSON)
