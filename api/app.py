"""The application: routes, limits, and errors that are always problem documents."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api import parameters, problems
from api.access import resolver
from api.access.gate import Gate
from api.access.identify import Identifier
from api.access.record import Recorder
from api.billing.settings import BillingSettings
from api.command_office import CommandOffice
from api.document import document
from api.house import House
from api.jobs.workshop import Workshop
from api.metrics import ApiMetrics
from api.middleware import BodyLimit, Envelope, HostCheck, RequestLimit, unavailable
from api.orders.settings import OrderSettings
from api.outbound.settings import OutboundSettings
from api.problems import ProblemError
from api.routing import EVERYWHERE, operation, routes
from api.screens.trouble import TroublePage
from api.settings import ApiSettings
from api.workers import Workers
from metering.clock import Clock
from metering.errors import RegistryError, StoreError
from metering.store import ReadingStore
from registry.database import Database
from registry.findings_settings import AlarmSettings
from registry.refusals import RefusedError
from registry.settings import AccessSettings

VERSION: Final = "1"
_DESK_THREADS: Final = 2
_DESCRIPTION: Final = """
Readings of gas, water and electricity meters, and what became of every one of them.

- Values are exact decimal strings in natural units; times are RFC 3339; both are never rounded or invented.
- Lists come in pages: hand `next_cursor` back as `cursor`, or follow the `Link` header.
- Latest and readings also come as NDJSON or CSV streams (`?format=` or `Accept`).
- Every error is an RFC 9457 problem document; unknown parameters are refused with the nearest spelling.
"""


def create_app(
    settings: ApiSettings,
    *,
    database: Database,
    store: ReadingStore,
    clock: Clock,
    metrics: ApiMetrics | None = None,
    access: AccessSettings | None = None,
    command_office: CommandOffice | None = None,
    alarms: AlarmSettings | None = None,
    orders: OrderSettings | None = None,
    billing_settings: BillingSettings | None = None,
    outbound: OutboundSettings | None = None,
    workshop: Workshop | None = None,
) -> FastAPI:
    """Return the ASGI application. It works on `database`, reads `store`, closes neither; `close` ends its threads.

    Raises: TableError when a route has no line in the table of roles, or a line no route.
    """
    metrics = metrics or ApiMetrics()
    app = FastAPI(
        title="Metergate",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation,
        dependencies=EVERYWHERE,
    )
    workers = Workers(threads=settings.threads, timeout_s=settings.response_timeout_s, clock=clock)
    desk = Workers(threads=_DESK_THREADS, timeout_s=settings.response_timeout_s, clock=clock)
    access = access or AccessSettings()
    door = Workers(threads=1, timeout_s=settings.response_timeout_s, clock=clock)
    recorder = Recorder(database, clock=clock, workers=desk)
    identifier = Identifier(database, limits=settings, access=access, clock=clock, workers=desk, recorder=recorder)
    house = House(settings, database, store, clock, metrics, workers, access, desk, door, identifier)
    house.recorder = recorder
    house.command_office, house.alarms = command_office, alarms or house.alarms
    house.orders, house.workshop = orders or house.orders, workshop or house.workshop
    house.outbound = outbound or house.outbound
    app.state.house, app.state.billing = house, billing_settings or BillingSettings()
    app.router.routes.extend(routes())
    resolver.check(app)
    _add_middleware(app, house, recorder)
    _add_error_handlers(app)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]  # FastAPI's own way of extending it
    return app


def close(app: FastAPI) -> None:
    """End the application's threads; harmless twice."""
    house: House = app.state.house
    house.hub.close()
    for workers in (house.workers, house.desk, house.door):
        workers.close()


def _add_middleware(app: FastAPI, house: House, recorder: Recorder) -> None:
    """The last one added is the outermost."""
    settings, metrics, clock = house.settings, house.metrics, house.clock
    app.add_middleware(
        Gate,
        routes=app,
        identifier=house.identifier,
        recorder=recorder,
        limits=settings,
        totp_roles=house.access.totp_roles,
        metrics=metrics,
        clock=clock,
    )
    app.add_middleware(BodyLimit, limits=settings, metrics=metrics, clock=clock)
    app.add_middleware(RequestLimit, limits=settings, metrics=metrics)
    app.add_middleware(HostCheck, names=settings.names, metrics=metrics)
    app.add_middleware(Envelope, metrics=metrics, clock=clock)
    app.add_middleware(TroublePage)


def _add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RefusedError, _on_refused)
    for kind in (RegistryError, StoreError, SQLAlchemyError):
        app.add_exception_handler(kind, _on_dependency)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problems.response(
        error.status,
        error.sort,
        error.detail,
        instance=request.scope["path"],
        errors=error.errors,
        headers=error.headers,
    )


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _on_problem(request, parameters.explain(error, request))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    words = {
        404: ("not-found", f"there is nothing at {problems.shown(path)}"),
        405: ("method-not-allowed", f"{problems.shown(request.method)} is not possible here"),
    }
    sort, detail = words.get(error.status_code, ("refused", problems.shown(error.detail)))
    return problems.response(error.status_code, sort, detail, instance=path, headers=error.headers)


_REFUSED: Final = {
    "invalid": (422, "invalid"),
    "unknown": (404, "not-found"),
    "conflict": (409, "conflict"),
    "forbidden": (403, "forbidden"),
}


async def _on_refused(request: Request, error: Exception) -> Response:
    """The registry does not make a change."""
    assert isinstance(error, RefusedError)
    status, sort = _REFUSED[error.sort]
    return problems.response(status, sort, problems.shown(error, most=500), instance=request.scope["path"])


async def _on_dependency(request: Request, error: Exception) -> Response:
    return unavailable(error, request.scope["path"])
