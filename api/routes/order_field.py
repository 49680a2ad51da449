"""What comes back from the field: receipts 回执 and photos."""

from __future__ import annotations

from typing import Annotated, Any, Final

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.orders import teams
from api.orders.photos import add_to_visit
from api.orders.receipts import Filing, file_receipt
from api.parameters import Nothing, Strict
from api.preconditions import IfMatch, wanted_version
from api.queries import work_orders
from api.replies import reply
from api.routes.documented import answers
from api.routes.order_parts import KeyHeader, NumberPath, answer, do, done_before, keep_key, no_photo
from api.schemas_work_orders import OrderDetail, PhotoOut, PhotosOut, ReceiptIn
from registry.models_work_orders import Photo
from registry.roles import Actor, Role

router = APIRouter(prefix="/api/v1/work-orders", tags=["work orders"])
NoQuery = Annotated[Nothing, Query()]
PhotoPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The photo's id.", examples=[1])]
_PICTURES: Final = ("image/jpeg", "image/png")
_CONTENT: Final[dict[str, Any]] = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _PICTURES}


class PhotoQuery(Strict):
    """Which visit the photo belongs to."""

    visit: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Number of the visit; the present or last one when left out."
    )


@router.post("/{number}/receipts", summary="File a receipt 回执", status_code=201, **answers(OrderDetail, status=201))
async def file_order_receipt(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: ReceiptIn, query: NoQuery,
    if_match: IfMatch = None, key: KeyHeader = None,
) -> Response:  # fmt: skip
    """Times, result, what was used, collected and found; it finishes the order or sends it back to be dispatched."""
    version, now = wanted_version(if_match), house.clock.now_ms()
    said = f"{number}\n{body.model_dump_json()}"

    def work(connection: Connection) -> None:
        if done_before(connection, caller, key, said) is not None:
            return
        work_orders.order_of(connection, caller, number)
        filing = _filing(connection, caller, number, body)
        own = teams.own_of(connection, caller)
        file_receipt(
            connection, caller, number, filing, now_ms=now, version=version, own=own, calendar=house.orders.calendar()
        )
        keep_key(connection, caller, key, said, number, now)

    await do(request, house, caller, work)
    if caller.has(*work_orders.DESK):
        return await answer(request, house, caller, number, status=201)
    return await answer(request, house, _as_filed(caller), number, status=201)


def _as_filed(worker: Actor) -> Actor:
    """Whoever filed a receipt sees what became of the order, though it may be dispatched to nobody now."""
    return Actor(worker.name, worker.roles | {Role.VIEWER}, areas=worker.areas, read_only=True)


def _filing(connection: Connection, caller: Actor, number: int, body: ReceiptIn) -> Filing:
    """Raises: StepError when a worker files for somebody who is not of his crew."""
    own_name = caller.name.partition(":")[2]
    worker = body.worker or own_name
    order = work_orders.order_of(connection, caller, number)
    teams.require_of_crew(connection, caller, order.assignee, worker)
    facts = body.model_dump(exclude={"worker", "materials", "index_seen"})
    return Filing(
        worker=worker,
        materials=[item.model_dump() for item in body.materials],
        index_seen={str(quantity): micro for quantity, micro in body.index_seen.items()},
        **facts,
    )


@router.post(
    "/{number}/photos",
    summary="Add a photo",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
    **answers(PhotoOut, status=201),
)
async def add_order_photo(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[PhotoQuery, Query()]
) -> Response:
    """The body is the picture: JPEG or PNG up to 4 MiB, by its own bytes. The same picture twice is one."""
    data, now = await request.body(), house.clock.now_ms()

    def work(connection: Connection) -> PhotoOut:
        work_orders.order_of(connection, caller, number)
        own = teams.own_of(connection, caller)
        made = add_to_visit(connection, caller, number, data, own=own, now_ms=now, visit=query.visit)
        return next(photo for photo in work_orders.photos(connection, number) if photo.id == made)

    made = reply(request, await do(request, house, caller, work), cached=False)
    made.status_code = 201
    return made


@router.get("/{number}/photos", summary="Photos of an order", **answers(PhotosOut))
async def list_order_photos(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery
) -> Response:
    """What is known of them; each has an address of its own."""

    def read(connection: Connection) -> PhotosOut:
        work_orders.order_of(connection, caller, number)
        return PhotosOut(items=work_orders.photos(connection, number))

    return reply(request, await house.read(read))


@router.get(
    "/{number}/photos/{photo}",
    summary="One photo",
    response_model=None,
    responses={200: {"description": "The picture.", "content": _CONTENT}},
)
async def one_order_photo(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, photo: PhotoPath, query: NoQuery
) -> Response:
    """Its bytes as they were sent, to be saved; nothing in them runs."""

    def read(connection: Connection) -> tuple[str, bytes]:
        work_orders.order_of(connection, caller, number)
        row = connection.execute(
            sa.select(Photo.media_type, Photo.data).where(Photo.id == photo, Photo.order_id == number)
        ).one_or_none()
        if row is None:
            raise no_photo(photo)
        return row.media_type, row.data

    media_type, data = await house.read(read)
    ending = "jpg" if media_type == "image/jpeg" else "png"
    headers = {
        "cache-control": "private, max-age=86400",
        "content-disposition": f'inline; filename="order-{number}-{photo}.{ending}"',
        "content-security-policy": "default-src 'none'; sandbox",
    }
    return Response(data, media_type=media_type, headers=headers)
