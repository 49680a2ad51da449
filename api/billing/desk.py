"""What all routes of billing share: settings, the scope that a caller may work on, answers given once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header, Path, Request
from pydantic import BaseModel
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.billing.load import Scope
from api.billing.settings import BillingSettings
from api.house import House
from api.problems import ProblemError
from api.replies import JSON
from api.schemas_billing import PERIOD_PATTERN
from registry import billing_keys
from registry.refusals import RefusedError
from registry.roles import Actor

T = TypeVar("T")
PeriodPath = Annotated[str, Path(pattern=PERIOD_PATTERN, description="Month in which it ends.", examples=["2026-02"])]
NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, examples=[1])]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same key again gets the answer that it got before, and nothing is done twice.",
    ),
]
_END: Final = object()


def _settings(request: Request) -> BillingSettings:
    found: BillingSettings = request.app.state.billing
    return found


InBilling = Annotated[BillingSettings, Depends(_settings)]


def scope_of(caller: Actor, customer_class: str | None, medium: str | None, district: str | None) -> Scope:
    """Return the usage points that a caller names. Raises: ProblemError 403 when not all of them are his.

    Who answers for one district may leave it out.
    """
    if caller.areas is not None and district is None and len(caller.areas) == 1:
        district = next(iter(caller.areas))
    if caller.areas is not None and (district is None or district not in caller.areas):
        raise ProblemError(403, "not-permitted-here", "name one of your districts")
    return Scope(customer_class or "", medium or "", district or "")


def require_all_areas(caller: Actor) -> None:
    """Rules hold for everybody. Raises: ProblemError 403 for a caller who is limited to areas."""
    if caller.areas is not None:
        raise ProblemError(403, "not-permitted-here", "rules hold in every area: this needs all areas")


def check_version(wanted: int | None, found: int) -> None:
    """Raises: ProblemError 412 when the object is not the one that the caller saw."""
    if wanted is not None and wanted != found:
        raise ProblemError(412, "changed-meanwhile", f"it has version {found} now, not {wanted}; look again")


async def once(
    house: House,
    caller: Actor,
    key: str | None,
    asked: Mapping[str, Any],
    work: Callable[[Connection], BaseModel],
) -> dict[str, Any]:
    """Do a write and return its answer; the same Idempotency-Key again returns that answer and does nothing.

    Raises: ProblemError 403 for what this person may not do, which is no matter of roles.
    """
    now = house.clock.now_ms()

    def inside(connection: Connection) -> dict[str, Any]:
        if (known := billing_keys.known(connection, caller, key, asked)) is not None:
            return known
        answer = work(connection).model_dump(mode="json", by_alias=True)
        billing_keys.remember(connection, caller, key, asked, answer, now)
        return answer

    made: dict[str, Any] = await permitted(lambda: house.write(inside))
    return made


async def permitted(work: Callable[[], Any]) -> Any:
    """Await work; what a person may not do becomes a problem of its own. Raises: ProblemError 403."""
    try:
        return await work()
    except RefusedError as error:
        if error.sort == "forbidden":
            raise ProblemError(403, "not-permitted-here", str(error)) from error
        raise


def told(answer: Mapping[str, Any], status: int = 200, *, location: str = "") -> Response:
    """Answer what a write made; its version is the ETag."""
    headers = {"cache-control": "no-store", "vary": "accept"}
    if (version := answer.get("version")) is not None:
        headers["etag"] = f'"v{version}"'
    if location:
        headers["location"] = location
    return Response(json.dumps(dict(answer), ensure_ascii=False), status, headers, JSON)


async def steps(house: House, work: Iterator[T]) -> AsyncIterator[T]:
    """Walk long work step by step in the workers' threads, each with its own deadline."""
    while (found := await house.workers.run(lambda: next(work, _END))) is not _END:
        yield found  # type: ignore[misc]  # everything but the end is of the iterator's own type
