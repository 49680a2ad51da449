"""/docs and the few files that pages need: everything from this machine, under a policy without inline script."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from api.problems import not_found
from api.replies import JSON, etag_of, unchanged
from api.screens.frame import CSP

router = APIRouter(include_in_schema=False)

_PAGES: Final = Path(__file__).parent.parent / "pages"
_HTML: Final = "text/html"

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
    headers = {"content-security-policy": CSP, "cache-control": "no-cache", "etag": etag}
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
