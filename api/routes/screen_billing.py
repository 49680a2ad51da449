"""/billing: how periods stand, the exceptions of one, and its long work: computing, closing, deltas, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.billing.close import check_closer
from api.billing.desk import InBilling, PeriodPath, permitted, scope_of
from api.billing.reconcile_words import KINDS
from api.here import Here, InHere
from api.jobs import billing as kinds
from api.parameters import Strict, Word
from api.problems import ProblemError
from api.queries import billing
from api.routes.screen_parts import NoQuery, show
from api.screens.billing import closes_of, newest_periods, progress
from api.screens.billing_work import VIEWS, WorklistQuery
from api.screens.billing_work import page as worklist
from api.screens.frame import attempt, may, texts_of
from api.screens.jobs import begin
from api.screens.order_forms import FormError, text_of
from registry.books import CustomerClass, Medium
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100
_FORMATS: Final = ("xlsx", "csv", "ndjson", "parquet", "nem13")
_REPORTS: Final = ("report-html", "report-csv")
_LONGEST_NOTE: Final = 1000
_TOTALS: Final = "/billing/{period}/points/{usage_point}"
CLASSES: Final = ("residential", "residential_heating", "restaurant", "commercial", "public", "industrial")
MEDIA: Final = ("gas", "water", "electricity", "heat")


class ScopeFields(Strict):
    """Which usage points, as forms say it: "" for all."""

    customer_class: CustomerClass | Literal[""] = ""
    medium: Medium | Literal[""] = ""
    district: Word | Literal[""] = ""

    def words(self) -> str:
        """Return the scope in one line."""
        return " ".join(filter(None, (self.customer_class, self.medium, self.district)))


@router.get("/billing")
async def billing_page(here: InHere, settings: InBilling, query: NoQuery) -> Response:
    """The newest periods, and how far the newest is."""
    periods, trouble = await attempt(here.house.read(lambda c: newest_periods(c, here.caller.areas)))
    found = None
    if periods:
        found, trouble = await attempt(progress(here.house, settings, here.caller, periods[0].period))
    return await show(
        here, "billing.html", periods=periods, found=found, trouble=trouble, linked=_linked(here.caller)
    )


def _linked(caller: Actor) -> bool:
    """True for whoever may see totals with their account numbers, and not only how many there are."""
    return may(caller, "GET", _TOTALS)


@router.get("/billing/{period}")
async def period_page(
    here: InHere,
    settings: InBilling,
    period: PeriodPath,
    query: Annotated[WorklistQuery, Query()],
) -> Response:
    """How far a period is, and the totals that wait for a person."""
    return await _period(here, settings, period, query)


async def _period(
    here: Here,
    settings: InBilling,
    period: str,
    query: WorklistQuery,
    *,
    refused: str = "",
    status: int = 200,
) -> Response:
    def look(connection: Connection) -> Any:
        rows = worklist(connection, here.caller.areas, period, query, limit=_ROWS, cursor=query.cursor)
        return rows, closes_of(connection, here.caller.areas, period)

    found, trouble = await attempt(progress(here.house, settings, here.caller, period))
    work = None
    if found is not None and _linked(here.caller):
        work, trouble = await attempt(here.house.read(look))
    return await show(
        here, "billing_period.html", period=period, found=found, query=query, trouble=trouble,
        work=work[0] if work else None, closes=work[1] if work else [], linked=_linked(here.caller), views=VIEWS,
        classes=CLASSES, media=MEDIA, formats=(*_FORMATS, *_REPORTS), reconciliations=KINDS, refused=refused,
        status=status,
    )  # fmt: skip


# -- closing 结账 ----------------------------------------------------------------------------------------------------


@router.get("/billing/{period}/close")
async def close_page(
    here: InHere,
    period: PeriodPath,
    query: Annotated[ScopeFields, Query()],
) -> Response:
    """What stands between a period and its close."""
    return await _close(here, period, query, {})


async def _close(
    here: Here,
    period: str,
    chosen: ScopeFields,
    typed: Mapping[str, str],
    *,
    refused: str = "",
    status: int = 200,
) -> Response:
    seen, trouble = None, ""
    try:
        scope = scope_of(here.caller, chosen.customer_class or None, chosen.medium or None, chosen.district or None)
    except ProblemError as error:
        refused = refused or error.detail
    else:
        seen, trouble = await attempt(here.house.read(lambda c: billing.checklist_of(c, period, scope, here.now)))
    return await show(
        here, "billing_close.html", period=period, seen=seen, chosen=chosen, typed=typed,
        trouble=trouble, refused=refused, classes=CLASSES, media=MEDIA, status=status,
    )  # fmt: skip


@router.post("/billing/{period}/close")
async def close_period(here: InHere, period: PeriodPath) -> Response:
    """Begin the close in the background, with the numbers that the closer has seen."""
    fields = await checked_fields(here.request)
    chosen = scope_fields(fields)
    try:
        args: dict[str, Any] = {name: _number(fields, name) for name in ("missing", "doubtful")}
        note = text_of(fields, "note", _LONGEST_NOTE)
    except FormError as error:
        said = _said(here.request, error)
        return await _close(here, period, chosen, fields, refused=said, status=422)
    scope = scope_of(here.caller, chosen.customer_class or None, chosen.medium or None, chosen.district or None)

    async def allowed() -> None:
        check_closer(here.caller, scope)

    await permitted(allowed)
    args |= {"period": period, "note": note, **_scope_args(scope)}
    return await begin(here.house, here.caller, kinds.CLOSE, args, title=f"{period} {chosen.words()}".strip())


def _number(fields: Mapping[str, str], name: str) -> int:
    text = fields.get(name, "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise FormError("number", name=name)
    return int(text)


def _said(request: Request, error: FormError) -> str:
    """Return the sentence of a form that was not taken."""
    t = texts_of(request)
    if error.key == "number":
        return t("billing_refused.number", name=t(f"billing_state.{error.values['name']}"))
    return t(f"order_refused.{error.key}", **error.values)


# -- other long work ------------------------------------------------------------------------------------------------


@router.post("/billing/{period}/refresh")
async def refresh_period(here: InHere, period: PeriodPath) -> Response:
    """Compute all totals of a scope again, in the background."""
    return await _scoped(here, kinds.REFRESH, period)


@router.post("/billing/{period}/find-deltas")
async def find_deltas(here: InHere, period: PeriodPath) -> Response:
    """Find what changed behind a closed period, in the background."""
    return await _scoped(here, kinds.DELTAS, period)


async def _scoped(here: Here, kind: str, period: str) -> Response:
    chosen = scope_fields(await checked_fields(here.request))
    scope = scope_of(here.caller, chosen.customer_class or None, chosen.medium or None, chosen.district or None)
    args = {"period": period, **_scope_args(scope)}
    return await begin(here.house, here.caller, kind, args, title=f"{period} {chosen.words()}".strip())


@router.post("/billing/{period}/reconcile")
async def reconcile_period(here: InHere, period: PeriodPath) -> Response:
    """Compare readings with purchases, SCADA or parent meters, in the background."""
    fields = await checked_fields(here.request)
    kind = fields.get("kind", "")
    if kind not in KINDS:
        raise ProblemError(422, "invalid-form", "kind must be one of the list")
    district = scope_of(here.caller, None, None, scope_fields(fields).district or None).district
    args = {"period": period, "kind": kind, "district": district}
    return await begin(here.house, here.caller, kinds.RECONCILE, args, title=f"{period} {kind} {district}".strip())


@router.post("/billing/{period}/verify")
async def verify_close(here: InHere, period: PeriodPath) -> Response:
    """Prove a close byte by byte, in the background."""
    fields = await checked_fields(here.request)
    number = fields.get("close", "")
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        raise ProblemError(422, "invalid-form", "close must be a number")
    await here.house.read(lambda c: billing.one_close(c, here.caller.areas, int(number)))
    args = {"period": period, "close": int(number)}
    return await begin(here.house, here.caller, kinds.VERIFY, args, title=f"{period} #{number}")


@router.post("/billing/{period}/export")
async def export_period(here: InHere, period: PeriodPath) -> Response:
    """Write totals or the reading report as a file, in the background."""
    fields = await checked_fields(here.request)
    chosen, form, state = scope_fields(fields), fields.get("format", ""), fields.get("state", "")
    if form in _REPORTS:
        form = form.removeprefix("report-")
        return await begin(
            here.house, here.caller, kinds.REPORT, {"period": period, "format": form}, title=f"{period} {form}"
        )
    if form not in _FORMATS or state not in ("", "billed", "doubtful", "missing", "excluded"):
        raise ProblemError(422, "invalid-form", "format and state must be of the lists")
    filters = {"period": period, "state": state} | chosen.model_dump()
    filters = {name: value for name, value in filters.items() if value}
    args: dict[str, Any] = {"period": period, "format": form, "filters": filters}
    return await begin(
        here.house, here.caller, kinds.EXPORT, args, title=f"{period} {form} {state} {chosen.words()}".strip()
    )


def scope_fields(fields: Mapping[str, str]) -> ScopeFields:
    """Return the scope of a form. Raises: ProblemError 422."""
    try:
        return ScopeFields.model_validate({name: fields.get(name, "") for name in ScopeFields.model_fields})
    except ValueError:
        raise ProblemError(422, "invalid-form", "class, medium or district is none that can be") from None


def _scope_args(scope: Any) -> dict[str, str]:
    return {name: getattr(scope, name) for name in ("customer_class", "medium", "district")}
