"""For people: what programs get as a problem document, a browser gets as a page that says the same."""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.screens.frame import HEADERS, HTML, TEMPLATES, texts_of, theme_of

_PROGRAMS: Final = ("/api/", "/events", "/readyz", "/livez", "/metrics", "/openapi.json")
_KEPT: Final = ("retry-after", "connection")
_LARGEST: Final = 64 * 1024


class TroublePage:
    """Turns problem documents into pages for whoever opens a page; outside of everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _opens_a_page(scope):
            await self.app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_problem(message):
                held.append(message)
            elif held:
                held.append(message)
                if not message.get("more_body", False):
                    await _page(scope, held)(scope, receive, send)
                    held.clear()
            else:
                await send(message)

        await self.app(scope, receive, hold)


def _opens_a_page(scope: Scope) -> bool:
    wants = "text/html" in Headers(scope=scope).get("accept", "")
    return scope["method"] in ("GET", "POST") and wants and not scope["path"].startswith(_PROGRAMS)


def _is_problem(message: Message) -> bool:
    return Headers(raw=message["headers"]).get("content-type", "").startswith(problems.MEDIA_TYPE)


def _page(scope: Scope, held: list[Message]) -> Response:
    body = b"".join(message.get("body", b"") for message in held[1:])[:_LARGEST]
    try:
        found: dict[str, Any] = json.loads(body)
    except ValueError:
        found = {}
    request, status = Request(scope), held[0]["status"]
    html = TEMPLATES.get_template("trouble.html").render(
        t=texts_of(request), theme=theme_of(request), status=status, detail=found.get("detail", "")
    )
    before = Headers(raw=held[0]["headers"])
    kept = {name: before[name] for name in _KEPT if name in before}
    return Response(html, status, {**HEADERS, "x-content-type-options": "nosniff", **kept}, HTML)
