"""/api/v1/billing: closing periods, delta lines with their approvals, corrections of readings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.billing.close import check_closer, delta_blocks, freeze_period, propose_adjustment
from api.billing.desk import (
    InBilling,
    KeyHeader,
    NumberPath,
    PeriodPath,
    check_version,
    once,
    permitted,
    scope_of,
    steps,
    told,
)
from api.billing.keep import refresh_blocks
from api.billing.spoken import close_out
from api.house import InHouse
from api.parameters import Nothing, PageQuery, Strict, Word
from api.preconditions import IfMatch, wanted_version, with_etag
from api.problems import ProblemError, not_found
from api.queries import billing, books
from api.replies import reply
from api.routes.documented import answers
from api.schemas_billing import (
    AdjustIn,
    ApproveIn,
    ChecklistOut,
    CloseIn,
    CloseOut,
    ClosePage,
    DeltaOut,
    DeltaPage,
    DeltaState,
    FoundOut,
    Period,
    Scoped,
    VerifyOut,
)
from api.schemas_billing_rules import CorrectIn, CorrectionOut, CorrectionPage
from api.schemas_books import UndoIn
from registry import billing_close, billing_keys, billing_words
from registry.books import CustomerClass, Medium

router = APIRouter(prefix="/api/v1/billing", tags=["billing"])
NoQuery = Annotated[Nothing, Query()]
_SHOWN = 100


class ScopeQuery(Strict):
    """Which usage points."""

    customer_class: CustomerClass | None = None
    medium: Medium | None = None
    district: Word | None = None


class ClosesQuery(PageQuery):
    """Filters of the list of closes."""

    period: Period | None = None


class DeltasQuery(PageQuery):
    """Filters; several must all hold."""

    period: Period | None = None
    in_period: Period | None = None
    state: DeltaState | None = None
    usage_point: Word | None = None
    since: Annotated[int | None, Field(ge=0, le=2**63 - 1, description="Only deltas with a higher version.")] = None


class CorrectionsQuery(PageQuery):
    """Filters of the list of corrections."""

    meter: Word | None = None


@router.get("/periods/{period}/checklist", summary="What stands before closing", **answers(ChecklistOut))
async def period_checklist(
    request: Request,
    house: InHouse,
    caller: InCaller,
    period: PeriodPath,
    query: Annotated[ScopeQuery, Query()],
) -> Response:
    """As the totals are stored; compute the period again first."""
    scope = scope_of(caller, query.customer_class, query.medium, query.district)
    now = house.clock.now_ms()
    found = await house.read(lambda c: billing.checklist_of(c, period, scope, now))
    return reply(request, found, cached=False)


@router.post(
    "/periods/{period}/close", summary="Close a period 结账", status_code=201, **answers(CloseOut, status=201)
)
async def close_period(
    house: InHouse,
    settings: InBilling,
    caller: InCaller,
    period: PeriodPath,
    body: CloseIn,
    query: NoQuery,
    key: KeyHeader = None,
) -> Response:
    """Brings its totals up to date, compares the open ones with what you confirm, and freezes all of them."""
    scope, now = scope_of(caller, body.customer_class, body.medium, body.district), house.clock.now_ms()
    asked = {"close": period, **body.model_dump()}
    if (known := await house.read(lambda c: billing_keys.known(c, caller, key, asked))) is not None:
        return told(known, 201)
    made: list[CloseOut] = []

    def also(connection: Connection, closed: dict[str, Any]) -> None:
        made.append(close_out(closed))
        billing_keys.remember(connection, caller, key, asked, made[-1].model_dump(), now)

    async def work() -> None:
        check_closer(caller, scope)
        async for _ in steps(house, refresh_blocks(house.database, house.store, settings, period, scope, now=now)):
            pass
        confirmed = {"missing": body.missing, "doubtful": body.doubtful, "now": now}
        await house.workers.run(
            lambda: freeze_period(house.database, caller, period, scope, note=body.note, also=also, **confirmed)
        )

    await permitted(work)
    return told(made[-1].model_dump(), 201, location=f"/api/v1/billing/closes/{made[-1].id}")


@router.get("/closes", summary="Closed periods", **answers(ClosePage))
async def list_closes(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[ClosesQuery, Query()]
) -> Response:
    """Newest first. A caller for some districts sees the closes of these districts."""
    return reply(
        request, await house.read(lambda c: billing.closes(c, caller.areas, query.period, query.limit, query.cursor))
    )


@router.get("/closes/{number}", summary="One close", **answers(CloseOut))
async def one_close(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery
) -> Response:
    """Who closed what, and the hash over it."""
    return reply(request, await house.read(lambda c: billing.one_close(c, caller.areas, number)))


@router.get("/closes/{number}/verify", summary="Prove a close", **answers(VerifyOut))
async def verify_close(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery
) -> Response:
    """Every closed total is compared with the digest that it was closed with, byte by byte."""

    def work(connection: Connection) -> VerifyOut:
        billing.one_close(connection, caller.areas, number)
        wrong = billing_close.verify(connection, number)
        return VerifyOut(close=number, unchanged=not wrong, wrong=wrong[:_SHOWN])

    return reply(request, await house.read(work), cached=False)


@router.post("/periods/{period}/find-deltas", summary="Find what changed since", **answers(FoundOut))
async def find_deltas(
    request: Request,
    house: InHouse,
    settings: InBilling,
    caller: InCaller,
    period: PeriodPath,
    body: Scoped,
    query: NoQuery,
) -> Response:
    """Computes a closed period again and proposes a delta line for every total that would be another one now."""
    scope, now = scope_of(caller, body.customer_class, body.medium, body.district), house.clock.now_ms()
    found: list[int] = []
    async for numbers in steps(house, delta_blocks(house.database, house.store, settings, period, scope, now=now)):
        found += numbers
    return reply(request, FoundOut(period=period, deltas=found), cached=False)


@router.get("/deltas", summary="Delta lines 补差", **answers(DeltaPage))
async def list_deltas(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[DeltasQuery, Query()]
) -> Response:
    """What changed behind closed periods, and who approved it."""
    wanted = {
        "period": query.period,
        "in_period": query.in_period,
        "state": query.state,
        "usage_point_id": query.usage_point,
    }
    return reply(
        request,
        await house.read(
            lambda c: billing.deltas(
                c, caller.areas, wanted, since=query.since, limit=query.limit, cursor=query.cursor
            )
        ),
    )


@router.get("/deltas/{number}", summary="One delta line", **answers(DeltaOut))
async def one_delta(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: NoQuery
) -> Response:
    """Its ETag goes into If-Match."""
    found = await house.read(lambda c: billing.one_delta(c, caller.areas, number))
    return with_etag(reply(request, found, cached=False), found.version)


@router.post("/adjustments", summary="Propose a refund or extra charge 退补", status_code=201,
             **answers(DeltaOut, status=201))  # fmt: skip
async def propose(
    house: InHouse, settings: InBilling, caller: InCaller, body: AdjustIn, query: NoQuery, key: KeyHeader = None
) -> Response:
    """On a closed total. Who must approve it follows from its size; nobody approves what he proposed."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> DeltaOut:
        books.require_point(connection, caller, body.usage_point)
        number = propose_adjustment(
            connection, settings, caller, body.usage_point, body.period,
            amount=body.amount, cause=body.cause, account=body.account, now=now,
        )  # fmt: skip
        return billing.one_delta(connection, caller.areas, number)

    made = await once(house, caller, key, {"adjust": body.model_dump()}, work)
    return told(made, 201, location=f"/api/v1/billing/deltas/{made['id']}")


@router.post("/deltas/{number}/approve", summary="Approve or reject a delta line", **answers(DeltaOut))
async def approve_delta(
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: ApproveIn,
    query: NoQuery,
    if_match: IfMatch = None,
    key: KeyHeader = None,
) -> Response:
    """In one capacity: `admin`, or a rank of the caller. One person gives one word."""
    wanted, now = wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> DeltaOut:
        check_version(wanted, billing.one_delta(connection, caller.areas, number).version)
        billing_words.approve(
            connection, caller, number, capacity=body.capacity, now=now, note=body.note, word=body.word
        )
        return billing.one_delta(connection, caller.areas, number)

    return told(await once(house, caller, key, {"approve": number, **body.model_dump()}, work))


@router.get("/corrections", summary="Corrections of readings", **answers(CorrectionPage))
async def list_corrections(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[CorrectionsQuery, Query()]
) -> Response:
    """Newest first, the withdrawn ones too. The store keeps what the meter sent."""
    return reply(
        request,
        await house.read(lambda c: billing.corrections(c, caller.areas, query.meter, query.limit, query.cursor)),
    )


@router.post("/corrections", summary="Correct a reading", status_code=201, **answers(CorrectionOut, status=201))
async def correct_reading(
    house: InHouse, caller: InCaller, body: CorrectIn, query: NoQuery, key: KeyHeader = None
) -> Response:
    """A record beside the reading, with who and why. A closed period gets a delta line when it is computed again."""
    now = house.clock.now_ms()
    await house.read(lambda c: books.require_meter(c, caller, body.meter))
    stored = await house.workers.run(lambda: house.store.get([(body.meter, body.read_at)]))
    reading = stored.get((body.meter, body.read_at))
    was = None if reading is None else reading.values.get(body.quantity)
    if was is None:
        raise not_found("reading", f"{body.meter} {body.quantity}")

    def work(connection: Connection) -> CorrectionOut:
        books.require_meter(connection, caller, body.meter)
        number = billing_words.correct(
            connection, caller, meter=body.meter, read_at=body.read_at, quantity=body.quantity, was=was,
            becomes=body.becomes, reason=body.reason, now=now,
        )  # fmt: skip
        return billing.one_correction(connection, caller.areas, number)

    return told(await once(house, caller, key, {"correct": body.model_dump()}, work), 201)


@router.post("/corrections/{number}/withdraw", summary="Withdraw a correction", **answers(CorrectionOut))
async def withdraw_correction(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, body: UndoIn, query: NoQuery
) -> Response:
    """It counts no more, and stays visible."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> CorrectionOut:
        found = billing.one_correction(connection, caller.areas, number)
        if found.withdrawn_at is not None:
            raise ProblemError(409, "conflict", f"correction {number} was withdrawn already")
        billing_words.withdraw_correction(connection, caller, number, now=now, note=body.note)
        return billing.one_correction(connection, caller.areas, number)

    return reply(request, await house.write(work), cached=False)
