"""Answers: JSON with an ETag, 304 when nothing changed, the link to the next page, and 303 for a browser."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote, urlencode

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

JSON: Final = "application/json"
_REVALIDATE: Final = "private, no-cache"
_AGE: Final = re.compile(
    rb'"age_s":\d+'
)  # inside a JSON text a quote has a backslash before it, so this is the field


def reply(request: Request, model: BaseModel, *, cached: bool = True) -> Response:
    """Answer one model.

    cached: give an ETag (weak, and without the fields named age_s, which change while nothing else does), so that a
    caller who sends it back gets 304 and no body. A model with `next_cursor` also gets the link to the next page.
    """
    body = model.model_dump_json(by_alias=True).encode()
    headers = {"cache-control": _REVALIDATE if cached else "no-store", "vary": "accept"}
    if cursor := getattr(model, "next_cursor", None):
        headers["link"] = f'<{_next_page(request, cursor)}>; rel="next"'
    if cached:
        headers["etag"] = f"W/{etag_of(_AGE.sub(b'', body))}"
        if unchanged(request, headers["etag"]):
            return Response(status_code=304, headers=headers)
    return Response(body, media_type=JSON, headers=headers)


def see_other(address: str) -> Response:
    """Lead a browser on, as after a form; nothing on the way keeps that answer."""
    return RedirectResponse(address, 303, headers={"cache-control": "no-store"})


def etag_of(body: bytes) -> str:
    """Return the ETag of an answer."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def unchanged(request: Request, etag: str) -> bool:
    """True when the caller already holds this very answer (If-None-Match)."""
    sent = request.headers.get("if-none-match", "")
    bare = etag.removeprefix("W/")
    return sent.strip() == "*" or bare in (part.strip().removeprefix("W/") for part in sent.split(","))


def _next_page(request: Request, cursor: str) -> str:
    pairs = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{quote(request.scope['path'])}?{urlencode([*pairs, ('cursor', cursor)])}"
