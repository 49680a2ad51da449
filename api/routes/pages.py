"""/, /docs and the few files they need: everything from this machine, under a policy that allows no inline script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from api.access.areas import Areas
from api.access.caller import InCaller
from api.access.gate import IDENTITY
from api.access.identify import Identity
from api.access.table import LOOK
from api.house import House, InHouse
from api.problems import ProblemError, not_found
from api.queries.overview import Overview, overview
from api.queries.readiness import readiness
from api.replies import JSON, etag_of, unchanged
from metering.errors import RegistryError

router = APIRouter(include_in_schema=False)

_PAGES: Final = Path(__file__).parent.parent / "pages"
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HTML: Final = "text/html"
_TEMPLATES: Final = Environment(loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined)

_FILES: Final = {
    "/docs": ("page:docs.html", _HTML),
    "/style.css": ("page:style.css", "text/css"),
    "/docs/start.js": ("page:start.js", "text/javascript"),
    "/docs/swagger-ui.css": ("swagger:swagger-ui.css", "text/css"),
    "/docs/swagger-ui-bundle.js": ("swagger:swagger-ui-bundle.js", "text/javascript"),
    "/docs/favicon.png": ("swagger:favicon-32x32.png", "image/png"),
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    etag: str


@cache
def _file(name: str) -> _File:
    where, _, leaf = name.partition(":")
    # the Swagger UI of OpenAPI 3.1 comes from PyPI's fastapi-swagger; only its files are used
    body = (_PAGES / leaf if where == "page" else files("fastapi_swagger") / "resources" / leaf).read_bytes()
    return _File(body, etag_of(body))


async def _send_file(request: Request) -> Response:
    found = _FILES.get(request.scope["path"])
    if found is None:
        raise not_found("address", request.scope["path"])
    file = _file(found[0])
    return _cached(request, file.body, file.etag, found[1])


def _cached(request: Request, body: bytes, etag: str, media_type: str) -> Response:
    headers = {"content-security-policy": _CSP, "cache-control": "no-cache", "etag": etag}
    if unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


for _path in _FILES:
    router.add_api_route(_path, _send_file, methods=["GET"], response_model=None)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    app: FastAPI = request.app
    body, etag = _document(app)
    return _cached(request, body, etag, JSON)


@cache
def _document(app: FastAPI) -> tuple[bytes, str]:
    body = json.dumps(app.openapi(), ensure_ascii=False).encode()
    return body, etag_of(body)


@router.get("/")
async def home(request: Request, house: InHouse, caller: InCaller) -> Response:
    """What runs, the first readings, the ledgers: readable without any script."""
    now_ms, limits = house.clock.now_ms(), house.settings
    ready = await house.workers.run(
        lambda: readiness(
            house.database,
            house.store,
            areas=caller.areas,
            now_ms=now_ms,
            ingest_stale_s=limits.ingest_stale_s,
            gateway_stale_s=limits.gateway_stale_s,
        )
    )
    view, trouble = None, "Your role opens no readings."
    if caller.has(*LOOK):
        view, trouble = await _overview(house, caller.areas, now_ms)
    window_h = f"{limits.read_rate_window_s / 3600:g}"
    identity: Identity = request.scope[IDENTITY]
    html = _TEMPLATES.get_template("home.html").render(
        ready=ready,
        view=view,
        trouble=trouble,
        window_h=window_h,
        who=caller.name.partition(":")[2],
        csrf_token=identity.page_token,
    )
    headers = {"content-security-policy": _CSP, "cache-control": "no-store", "referrer-policy": "same-origin"}
    return Response(html, media_type=_HTML, headers=headers)


async def _overview(house: House, areas: Areas, now_ms: int) -> tuple[Overview | None, str]:
    """Return (figures, "") or (None, why there are none)."""
    window_s, stale_s = house.settings.read_rate_window_s, house.settings.gateway_stale_s
    try:
        found = await house.read(
            lambda c: overview(c, areas=areas, now_ms=now_ms, window_s=window_s, stale_s=stale_s)
        )
    except (RegistryError, SQLAlchemyError, ProblemError) as error:
        return None, f"The registry cannot be read now: {getattr(error, 'orig', None) or error}"
    return found, ""
