"""/billing/deltas: what changed behind closed periods, and the words of those who may approve it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.billing.desk import NumberPath, check_version
from api.here import Here, InHere
from api.parameters import Cursor, Strict
from api.problems import ProblemError
from api.queries import billing
from api.replies import see_other
from api.routes.screen_parts import NoQuery, show
from api.schemas_billing import DeltaOut, DeltaState, Period
from api.screens.frame import attempt, texts_of
from api.screens.order_forms import FormError, text_of
from metering.quantities import UNITS
from registry import billing_words
from registry.refusals import RefusedError
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100
_LONGEST_NOTE: Final = 2000
_STATES: Final = ("proposed", "approved", "rejected", "replaced", "all")


class DeltasQuery(Strict):
    """Filters of the list; an empty field narrows nothing."""

    state: DeltaState | Literal["all"] = "proposed"
    period: Period | Literal[""] = ""
    cursor: Cursor | None = None


@router.get("/billing/deltas")
async def deltas_page(here: InHere, query: Annotated[DeltasQuery, Query()]) -> Response:
    """What waits for a word, oldest first."""
    wanted = {"state": None if query.state == "all" else query.state, "period": query.period or None}
    found, trouble = await attempt(
        here.house.read(
            lambda c: billing.deltas(c, here.caller.areas, wanted, since=None, limit=_ROWS, cursor=query.cursor)
        )
    )
    return await show(
        here, "billing_deltas.html", found=found, trouble=trouble, query=query, states=_STATES,
        units=UNITS,
    )  # fmt: skip


@router.get("/billing/deltas/{number}")
async def delta_page(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """One delta line: the numbers, the account of it, who said what and who is still to be heard."""
    return await _show(here, number)


async def _show(
    here: Here,
    number: int,
    *,
    refused: str = "",
    note: str = "",
    status: int = 200,
) -> Response:
    found, trouble = await attempt(here.house.read(lambda c: billing.one_delta(c, here.caller.areas, number)))
    words, reason = _words_of(found, here.caller) if found is not None else ([], "")
    return await show(
        here, "billing_delta.html", number=number, delta=found, trouble=trouble, words=words,
        reason=reason, refused=refused, note=note, units=UNITS, status=status,
    )  # fmt: skip


def _words_of(delta: DeltaOut, caller: Actor) -> tuple[list[str], str]:
    """Return the capacities in which a caller may speak now, and why there is none (a key of `billing_no_word`)."""
    if delta.state != "proposed":
        return [], "over"
    if delta.proposed_by == caller.name:
        return [], "own"
    if any(approval.actor == caller.name for approval in delta.approvals):
        return [], "spoken"
    mine = billing_words.may_approve_as(caller)
    words = [capacity for capacity in delta.waits_for if capacity in mine]
    return words, "" if words else "rank"


@router.post("/billing/deltas/{number}/approve")
async def approve(here: InHere, number: NumberPath) -> Response:
    """Give one capacity's word."""
    fields = await checked_fields(here.request)
    version = fields.get("version", "")

    def work(connection: Connection) -> Any:
        wanted = int(version) if version.isascii() and version.isdigit() and len(version) < 16 else -1
        check_version(wanted, billing.one_delta(connection, here.caller.areas, number).version)
        return billing_words.approve(
            connection, here.caller, number, capacity=fields.get("capacity", ""), now=here.now,
            note=text_of(fields, "note", _LONGEST_NOTE), word=fields.get("word", ""),
        )  # fmt: skip

    t = texts_of(here.request)
    try:
        await here.house.write(work)
    except FormError as error:
        said, status = t(f"order_refused.{error.key}", **error.values), 422
    except RefusedError as error:
        said, status = str(error), 403 if error.sort == "forbidden" else 409
    except ProblemError as error:
        if error.status != 412:
            raise
        said, status = t("billing_refused.changed"), 412
    else:
        return see_other(f"/billing/deltas/{number}")
    return await _show(here, number, refused=said, note=fields.get("note", ""), status=status)
