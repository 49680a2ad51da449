"""The application: routes, limits, and errors that are always problem documents."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters, problems
from api.access import credentials, table
from api.access.gate import Gate, same_route
from api.access.identify import Identifier
from api.access.record import Recorder
from api.billing.settings import BillingSettings
from api.command_office import CommandOffice
from api.house import House
from api.jobs.workshop import Workshop
from api.metrics import ApiMetrics
from api.middleware import BodyLimit, Envelope, HostCheck, RequestLimit, unavailable
from api.orders.settings import OrderSettings
from api.outbound.settings import OutboundSettings
from api.problems import Problem, ProblemError
from api.routes import (
    audit,
    billing,
    billing_close,
    billing_reports,
    billing_rules,
    books,
    commands,
    crews,
    events,
    findings,
    gateways,
    imports,
    jobs,
    keys,
    latest,
    live,
    login,
    maintenance,
    meters,
    notification_rules,
    order_field,
    order_plans,
    pages,
    reconciliation,
    screen_account,
    screen_admin,
    screen_admin_audit,
    screen_admin_keys,
    screen_admin_outbound,
    screen_admin_storage,
    screen_admin_thresholds,
    screen_admin_users,
    screen_alarms,
    screen_billing,
    screen_billing_deltas,
    screen_billing_point,
    screen_field,
    screen_jobs,
    screen_meters,
    screen_order_forms,
    screen_orders,
    screen_shift,
    screens,
    session,
    shifts,
    slips,
    thresholds,
    users,
    watch,
    webhooks,
    work_orders,
)
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


_EVERYWHERE: Final = (Depends(same_route), Depends(parameters.refuse_repeated))


def _operation(route: APIRoute) -> str:
    return route.name


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
        generate_unique_id_function=_operation,
        dependencies=_EVERYWHERE,
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
    app.router.routes.extend(_routes())
    table.check(app)
    _add_middleware(app, house, recorder)
    _add_error_handlers(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way of extending it
    return app


@cache
def _routes() -> list[BaseRoute]:
    """Return all routes, worked out once in a process; they know their applications only by the requests."""
    made = APIRouter(generate_unique_id_function=_operation, dependencies=_EVERYWHERE)
    for module in (
        meters,
        latest,
        gateways,
        commands,
        crews,
        order_plans,
        slips,
        work_orders,
        order_field,
        webhooks,
        notification_rules,
        events,
        findings,
        maintenance,
        thresholds,
        shifts,
        jobs,
        books,
        imports,
        billing,
        billing_close,
        billing_reports,
        billing_rules,
        reconciliation,
        watch,
        session,
        users,
        keys,
        audit,
        login,
        pages,
        screens,
        screen_account,
        screen_admin,
        screen_admin_audit,
        screen_admin_keys,
        screen_admin_outbound,
        screen_admin_storage,
        screen_admin_thresholds,
        screen_admin_users,
        screen_field,
        screen_alarms,
        screen_billing_deltas,
        screen_billing,
        screen_billing_point,
        screen_jobs,
        screen_meters,
        screen_shift,
        screen_orders,
        screen_order_forms,
        live,
    ):
        made.include_router(module.router)
    return made.routes


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


_PROBLEMS: Final = {
    "401": "Nobody known calls: no key, no login, or one that is not good.",
    "403": "The caller's roles do not open this.",
    "404": "There is no such object.",
    "406": "None of our formats is accepted.",
    "413": "The body is too large.",
    "421": "The Host header names another machine.",
    "422": "A parameter cannot be used; `errors` names each of them.",
    "429": "Too many requests; `Retry-After` says when to come again.",
    "500": "An error of ours; the log knows it by the number in `detail`.",
    "503": "Busy, or registry or store cannot be read now.",
}


_CHANGING: Final = {
    "409": "The state of the object does not allow it.",
    "412": "Somebody else changed it meanwhile.",
    "428": "If-Match is missing.",
}

_SCHEMES: Final = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key of a program: `Authorization: Bearer mg_…`."},
    "login": {
        "type": "apiKey",
        "in": "cookie",
        "name": credentials.COOKIE,
        "description": "A login of a person; `__Host-metergate` under TLS. Changes also need X-CSRF-Token.",
    },
}
_KNOWN: Final[list[dict[str, list[str]]]] = [{"key": []}, {"login": []}]


def _security(method: str, path: str) -> list[dict[str, list[str]]]:
    """What the table of roles asks for, in the words of OpenAPI; an empty object stands for nobody known."""
    who = table.TABLE.get((method.upper(), path))
    if who is table.ANYBODY:
        return []
    return [{}, *_KNOWN] if who is table.OPEN_ON_LOOPBACK else _KNOWN


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with problem documents for every refusal instead of FastAPI's own."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
        )
        schemas = made["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        _add_problem_schemas(schemas)
        made["components"]["securitySchemes"] = _SCHEMES
        for path, methods in made["paths"].items():
            for method, operation in methods.items():
                operation["security"] = _security(method, path)
                _add_problem_answers(operation["responses"], changing=method != "get")
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _present(parameter["schema"])
        app.openapi_schema = made
    return app.openapi_schema


_TAGS: Final = [
    {"name": "readings", "description": "What the meters show."},
    {"name": "meters", "description": "Meters, their places, their history."},
    {"name": "gateways", "description": "Edge programs and their delivery ledger."},
    {"name": "commands", "description": "What gateways are told to do, and what became of it."},
    {"name": "events", "description": "What went wrong, and what was refused."},
    {"name": "findings", "description": "What the rules found, its alarms, and maintenance windows."},
    {
        "name": "work orders",
        "description": "Who is sent where and why, what came back, and what it teaches the rules.",
    },
    {"name": "outbound", "description": "Webhooks, their deliveries, and who is notified of what."},
    {"name": "books", "description": "Meters and customers at usage points, manual readings, files."},
    {"name": "jobs", "description": "Long work in the background: how far it is, its result."},
    {"name": "billing", "description": "Monthly totals, their states, closes, deltas, read rates."},
    {"name": "access", "description": "Logins, users, keys, and who changed what."},
    {"name": "watching", "description": "For whatever watches the house."},
]


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter in an address is there or not, it is never null: leave that half of its schema out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **kinds[0]}


def _add_problem_schemas(schemas: dict[str, Any]) -> None:
    made = Problem.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schemas.update(made.pop("$defs", {}))
    schemas["Problem"] = made


def _add_problem_answers(answers: dict[str, Any], *, changing: bool) -> None:
    answers.pop("422", None)
    for status, description in (_PROBLEMS | _CHANGING if changing else _PROBLEMS).items():
        content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if status == "422":
            content[problems.MEDIA_TYPE]["example"] = _EXAMPLE
        if status not in answers:
            answers[status] = {"description": description, "content": content}


_EXAMPLE: Final = json.loads(
    problems.document(
        422,
        "invalid-parameter",
        'limt: unknown parameter; did you mean "limit"?',
        instance="/api/v1/meters",
        errors=[
            problems.ParameterProblem(
                place="query", name="limt", value="5", problem='unknown parameter; did you mean "limit"?'
            )
        ],
    )
)
