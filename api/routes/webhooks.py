"""/api/v1/webhooks and /api/v1/webhook-deliveries: where events go, signed, and what became of each message."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import House, InHouse
from api.outbound import book, outbox
from api.outbound.addresses import AddressError, addresses_of, parse_url, resolve
from api.outbound.outbox import Put
from api.outbound.templates import of_event
from api.outbound.texts import Told
from api.parameters import Nothing, PageQuery, Word
from api.preconditions import IfMatch, wanted_version, with_etag
from api.problems import ProblemError, invalid
from api.queries import outbound
from api.replies import reply
from api.routes.documented import answers
from api.schemas_outbound import (
    DeliveryDetail,
    DeliveryPage,
    ReplayedOut,
    WebhookChangeIn,
    WebhookIn,
    WebhookMade,
    WebhookOut,
    WebhookPage,
    values_of,
)
from metering.clock import rfc3339
from registry import audit
from registry.models_outbound import Webhook
from registry.roles import Actor

router = APIRouter(prefix="/api/v1", tags=["outbound"])
_RESOLVE_S = 5.0

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The webhook's id.", examples=[1])]
DeliveryPath = Annotated[str, Path(pattern=r"^msg_[0-9a-f]{32}$", description="The delivery's id.")]


class DeliveriesQuery(PageQuery):
    """Filters of the list of deliveries."""

    webhook: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    state: Literal["waiting", "delivered", "dead"] | None = None
    channel: Literal["webhook", "email"] | None = None
    kind: Word | None = Field(None, description="An event, or notification.", examples=["finding.opened"])


def problem_of(error: Exception) -> ProblemError:
    """Return what a caller is told of a change that was refused."""
    if isinstance(error, book.StaleError):
        return ProblemError(412, "changed-meanwhile", str(error))
    if isinstance(error, book.BookError):
        if error.field == "number":
            return ProblemError(409, "not-permitted-now", str(error))
        return invalid(error.field, error.value, str(error), place="body")
    return ProblemError(404, "not-found", str(error))


@router.get("/webhooks", summary="List webhooks", **answers(WebhookPage))
async def list_webhooks(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """All that lie in the caller's areas."""
    items = await house.read(lambda c: outbound.webhooks(c, caller))
    return reply(request, WebhookPage(items=items), cached=False)


@router.post("/webhooks", summary="Register a webhook", status_code=201, **answers(WebhookMade, status=201))
async def create_webhook(
    request: Request, house: InHouse, caller: InCaller, body: WebhookIn, query: Annotated[Nothing, Query()]
) -> Response:
    """The answer holds the signing secret, this once."""
    await _check_url(house, caller, body.url)
    now, most = house.clock.now_ms(), house.outbound.max_webhooks

    def work(connection: Connection) -> WebhookMade:
        number, secret = book.create_webhook(connection, caller, body.model_dump(mode="json"), now_ms=now, most=most)
        return WebhookMade(**outbound.webhook(connection, caller, number).model_dump(), secret=secret)

    try:
        made = await house.write(work)
    except book.BookError as error:
        raise problem_of(error) from error
    answer = with_etag(reply(request, made, cached=False), made.version)
    answer.status_code = 201
    answer.headers["location"] = f"/api/v1/webhooks/{made.id}"
    return answer


async def _check_url(house: House, caller: Actor, url: str) -> None:
    """Refuse an address inside the house, with an audit row. Raises: ProblemError 422."""
    try:
        target = parse_url(url, house.outbound)
        await house.clock.timeout(addresses_of(target, house.outbound, resolve), _RESOLVE_S)
    except (AddressError, TimeoutError) as error:
        why = str(error) or "its name was not found in time"
        now = house.clock.now_ms()

        def note(connection: Connection) -> None:
            after = {"url": book.shown_url(url)[:300]}
            audit.append(connection, caller, "webhook.refuse", "webhook", "", at=now, after=after, note=why[:300])

        await house.write(note)
        raise invalid("url", book.shown_url(url), why, place="body") from error


@router.get("/webhooks/{number}", summary="One webhook", **answers(WebhookOut))
async def one_webhook(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Its ETag goes into If-Match."""
    try:
        found = await house.read(lambda c: outbound.webhook(c, caller, number))
    except book.UnknownError as error:
        raise problem_of(error) from error
    return with_etag(reply(request, found, cached=False), found.version)


async def _changed(house: House, work: Any) -> Any:
    try:
        return await house.write(work)
    except (book.UnknownError, book.StaleError, book.BookError) as error:
        raise problem_of(error) from error


@router.patch("/webhooks/{number}", summary="Change a webhook", **answers(WebhookOut))
async def change_webhook(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: WebhookChangeIn,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Also switches one on again that was switched off."""
    version, now = wanted_version(if_match), house.clock.now_ms()
    if body.url is not None:
        await _check_url(house, caller, body.url)

    def work(connection: Connection) -> WebhookOut:
        book.change(connection, caller, Webhook, number, values_of(body), now_ms=now, version=version)
        return outbound.webhook(connection, caller, number)

    found = await _changed(house, work)
    return with_etag(reply(request, found, cached=False), found.version)


@router.delete("/webhooks/{number}", summary="Remove a webhook", status_code=204)
async def delete_webhook(
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Its deliveries go with it; refused while a notification rule names it."""
    version, now = wanted_version(if_match), house.clock.now_ms()
    await _changed(house, lambda c: book.delete_webhook(c, caller, number, now_ms=now, version=version))
    return Response(status_code=204)


@router.post("/webhooks/{number}/rotate-secret", summary="Give a webhook a new secret", **answers(WebhookMade))
async def rotate_secret(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """The new one is shown this once; for a day the old one signs as well."""
    version, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> WebhookMade:
        secret = book.rotate(connection, caller, number, now_ms=now, version=version)
        return WebhookMade(**outbound.webhook(connection, caller, number).model_dump(), secret=secret)

    made = await _changed(house, work)
    return with_etag(reply(request, made, cached=False), made.version)


@router.post("/webhooks/{number}/test", summary="Send a test", status_code=202, **answers(DeliveryDetail, status=202))
async def test_webhook(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """An event named test in the form of its template; the delivery tells what became of it."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> DeliveryDetail:
        row = book.one(connection, caller, Webhook, number)
        if not row.enabled:
            raise book.BookError("number", number, f"webhook {number} is switched off")
        event = Told("test", rfc3339(now), "", "low", "test", "house", "test", {"reason": f"test by {caller.name}"})
        district = row.districts[0] if row.districts else ""
        item = Put(f"test:{number}:{now}", "webhook", number, "", "test", district, "", of_event(row.template, event))
        (name,) = outbox.put(connection, [item], now_ms=now)
        audit.append(connection, caller, "webhook.test", "webhook", number, at=now, after={"delivery": name})
        return outbound.delivery(connection, caller, name)

    answer = reply(request, await _changed(house, work), cached=False)
    answer.status_code = 202
    return answer


@router.post("/webhooks/{number}/replay", summary="Send all dead deliveries again", **answers(ReplayedOut))
async def replay_webhook(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """With their old ids; for a receiver that was away for long."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> ReplayedOut:
        if not book.one(connection, caller, Webhook, number).enabled:
            raise book.BookError("number", number, f"webhook {number} is switched off; switch it on first")
        return ReplayedOut(replayed=outbox.replay_dead(connection, caller, number, now_ms=now))

    return reply(request, await _changed(house, work), cached=False)


@router.get("/webhook-deliveries", summary="List messages that leave the house", **answers(DeliveryPage))
async def list_deliveries(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[DeliveriesQuery, Query()]
) -> Response:
    """Newest first: events to webhooks, and notifications by webhook or e-mail."""
    filters = outbound.Filters(query.webhook, query.state, query.channel, query.kind)
    page = await house.read(lambda c: outbound.deliveries(c, caller, filters, limit=query.limit, cursor=query.cursor))
    return reply(request, DeliveryPage(items=page.items, next_cursor=page.next_cursor), cached=False)


@router.get("/webhook-deliveries/{delivery}", summary="One message", **answers(DeliveryDetail))
async def one_delivery(
    request: Request, house: InHouse, caller: InCaller, delivery: DeliveryPath, query: Annotated[Nothing, Query()]
) -> Response:
    """With its content."""
    return reply(request, await house.read(lambda c: outbound.delivery(c, caller, delivery)), cached=False)


@router.post("/webhook-deliveries/{delivery}/replay", summary="Send one again", **answers(DeliveryDetail))
async def replay_delivery(
    request: Request, house: InHouse, caller: InCaller, delivery: DeliveryPath, query: Annotated[Nothing, Query()]
) -> Response:
    """With its old id, so that a receiver that has it already does nothing twice."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> DeliveryDetail:
        outbound.delivery(connection, caller, delivery)
        outbox.replay(connection, caller, delivery, now_ms=now)
        return outbound.delivery(connection, caller, delivery)

    try:
        found = await house.write(work)
    except outbox.ReplayError as error:
        raise ProblemError(409, "not-permitted-now", str(error)) from error
    return reply(request, found, cached=False)
