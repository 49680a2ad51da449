"""What the routes of work orders share: refusals as problems, versions, keys against doing it twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

import sqlalchemy as sa
from fastapi import Header, Path
from sqlalchemy.engine import Connection, Row
from starlette.requests import Request
from starlette.responses import Response

from api.house import House
from api.orders import evidence
from api.orders.book import StaleError, UnknownOrderError
from api.orders.lifecycle import StepError
from api.preconditions import with_etag
from api.problems import ProblemError, not_found
from api.queries import work_orders
from api.replies import reply
from api.schemas_work_orders import OrderDetail
from metering.clock import rfc3339
from registry.models_work_orders import WorkOrderKey
from registry.roles import Actor

T = TypeVar("T")
NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The order's id.", examples=[1])]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key again finds what it did before and does nothing more.",
    ),
]
_STATUS: Final = {
    "forbidden": (403, "not-yours-to-do"),
    "impossible": (409, "not-possible-now"),
    "incomplete": (422, "incomplete"),
}


async def do(request: Request, house: House, caller: Actor, work: Callable[[Connection], T]) -> T:
    """Write, and say in problems what is refused; nothing is changed then but the audit, which keeps the refusal."""
    try:
        return await house.write(work)
    except StaleError as error:
        detail = f"{error}; at {rfc3339(error.at)}"
        raise ProblemError(412, "changed-meanwhile", detail, headers={"etag": f'"v{error.version}"'}) from error
    except StepError as error:
        status, sort = _STATUS[error.sort]
        if house.recorder is not None:
            await house.recorder.refused(sort, request.scope, actor=caller, note=str(error))
        raise ProblemError(status, sort, str(error)) from error
    except UnknownOrderError as error:
        raise ProblemError(404, "not-found", str(error)) from error


async def answer(
    request: Request, house: House, caller: Actor, number: int, *, status: int = 200, quick: bool = True
) -> Response:
    """Answer with an order as it is now. quick: without evidence, which a step does not change."""
    now = house.clock.now_ms()

    def read(connection: Connection) -> tuple[Row[object], OrderDetail, evidence.Books | None]:
        row = work_orders.order_of(connection, caller, number)
        detail = OrderDetail(
            **work_orders.facts(row, now),
            allowed=work_orders.allowed(connection, caller, row),
            steps=work_orders.steps_of(connection, number),
            receipts=work_orders.receipts(connection, number),
            photos=work_orders.photos(connection, number),
            evidence=None,
        )
        return row, detail, None if quick else evidence.books(connection, row)

    _, detail, known = await house.read(read)
    if known is not None:
        shown = await house.workers.run(lambda: evidence.measured(house.store, known, now))
        detail = detail.model_copy(update={"evidence": shown})
    made = with_etag(reply(request, detail, cached=False), detail.version)
    made.status_code = status
    return made


def done_before(connection: Connection, caller: Actor, key: str | None, body: str) -> int | None:
    """Return the order that this key made or changed before. Raises: ProblemError 409 for another body."""
    if key is None:
        return None
    found = connection.execute(sa.select(WorkOrderKey).where(WorkOrderKey.key == _digest(caller.name, key))).first()
    if found is None:
        return None
    if found.body != _digest(body):
        raise ProblemError(409, "key-used", "this Idempotency-Key was used for something else")
    return int(found.order_id)


def keep_key(connection: Connection, caller: Actor, key: str | None, body: str, order_id: int, now_ms: int) -> None:
    """Remember what a key did."""
    if key is not None:
        row = {"key": _digest(caller.name, key), "body": _digest(body), "order_id": order_id, "at": now_ms}
        connection.execute(sa.insert(WorkOrderKey).values(**row))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()


def no_photo(number: int) -> ProblemError:
    """Return the error for a photo that the order does not have."""
    return not_found("photo", number)
