"""The frame around every page: language, theme, navigation by role, what is stale, and the policy for the browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from anomaly.stored import city_zone
from api.access import credentials, origin
from api.access.gate import IDENTITY
from api.access.table import TABLE
from api.house import PLACE, House
from api.problems import ProblemError
from api.queries.readiness import faults
from api.screens import evidence
from api.screens.assets import assets
from api.screens.said import Reader
from api.screens.texts import language_of
from metering.clock import parse_rfc3339
from metering.errors import MetergateError
from registry.refusals import RefusedError
from registry.roles import Actor

T = TypeVar("T")
HTML: Final = "text/html"
LANGUAGE: Final = "metergate-language"
THEME: Final = "metergate-theme"
THEMES: Final = ("auto", "light", "dark")
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {"content-security-policy": CSP, "cache-control": "no-store", "referrer-policy": "same-origin"}
_NAVIGATION: Final = (
    ("/", "overview"),
    ("/alarms", "alarms"),
    ("/shift", "shift"),
    ("/orders", "orders"),
    ("/meters", "meters"),
    ("/field", "field"),
    ("/billing", "billing"),
    ("/jobs", "jobs"),
    ("/admin", "admin"),
)
_KEEP_S: Final = 1.0
_KEEP_ZONE_S: Final = 60.0
"""The zone is that of most usage points: to count them takes 30 ms in a large city."""


def _path(text: object) -> str:
    """Return a name as one piece of an address; Jinja's own filter leaves slashes."""
    return quote(str(text), safe="")


TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals["numbers"] = evidence.shown
TEMPLATES.filters["path"] = _path
TEMPLATES.filters["unit"] = lambda unit: str(unit).replace("m3", "m³")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every page says of the house. stale: sentences of what makes its data old, each after its part's name."""

    zone: str
    stale: tuple[str, ...]


async def surroundings(house: House) -> Surroundings:
    """Return the city's time zone and what is stale now, at most a second old; never raises for a registry away."""

    async def ask() -> Surroundings:
        try:
            zone = await house.shared.get("zone", lambda: house.read(city_zone), keep_s=_KEEP_ZONE_S)
            return await house.read(lambda c: _look(house, c, zone))
        except (SQLAlchemyError, MetergateError, ProblemError) as error:
            return Surroundings("UTC", (sentence(error),))

    return await house.shared.get("surroundings", ask, keep_s=_KEEP_S)


def _look(house: House, connection: Connection, zone: str) -> Surroundings:
    checks = faults(connection, house.clock.now_ms(), house.settings.ingest_stale_s)
    return Surroundings(zone, tuple(f"{check.name}: {check.reason}" for check in checks))


def sentence(error: Exception) -> str:
    """Return what an error says, in one line."""
    said = getattr(error, "orig", None) or getattr(error, "detail", None) or error
    return str(said)[:300]


async def attempt(work: Awaitable[T]) -> tuple[T | None, str]:
    """Return (answer, "") or (None, why registry or store cannot be read now)."""
    try:
        return await work, ""
    except ProblemError as error:
        if error.status < 500:
            raise
        return None, sentence(error)
    except (SQLAlchemyError, MetergateError) as error:
        if isinstance(error, RefusedError) and error.sort == "unknown":
            raise
        return None, sentence(error)


def may(caller: Actor, method: str, path: str) -> bool:
    """True when the table of roles gives a route to the caller: what one may not do has no button."""
    who = TABLE[(method, path)]
    roles = isinstance(who, frozenset) and caller.has(*who)
    return roles and not (caller.read_only and method != "GET")


def texts_of(request: Request) -> Reader:
    """Return the texts in the language of a request, with times in UTC."""
    chosen = _preference(request, LANGUAGE)
    return Reader(language_of(chosen, request.headers.get("accept-language", "")), Times("UTC"))


def theme_of(request: Request) -> str:
    """Return auto, light or dark."""
    chosen = _preference(request, THEME)
    return chosen if chosen in THEMES else THEMES[0]


def _preference(request: Request, name: str) -> str:
    """Return a cookie of `/preferences`, "" without one; its name differs under TLS (`api.access.login`)."""
    secure = origin.is_secure(request.scope)
    return credentials.cookie(request.scope, f"__Host-{name}" if secure else name) or ""


class Times:
    """Times as a person reads them, in the city's zone."""

    def __init__(self, zone: str) -> None:
        try:
            self.zone: ZoneInfo | Any = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.zone = UTC

    def __call__(self, when: str | int | None) -> str:
        """Return "2026-03-01 08:00:00" of RFC 3339 or [ms UTC]; "–" for None."""
        if when is None:
            return "–"
        ms = parse_rfc3339(when) if isinstance(when, str) else when
        return f"{datetime.fromtimestamp(ms / 1000, self.zone):%Y-%m-%d %H:%M:%S}"


async def page(
    house: House,
    request: Request,
    caller: Actor,
    template: str,
    *,
    topics: str = "",
    status: int = 200,
    at: str | None = None,
    **values: Any,
) -> Response:
    """Return a whole page. topics: words of `api.screens.live` at which the page fetches itself anew.

    at: address of the page where a form is answered with it; None: the one that was asked for.
    """
    around = await surroundings(house)
    identity = request.scope.get(IDENTITY)
    time = Times(around.zone)
    texts = Reader(texts_of(request).language, time)
    html = TEMPLATES.get_template(template).render(
        t=texts,
        word=texts.word,
        time=time,
        zone=around.zone,
        now=house.clock.now_ms(),
        stale=around.stale,
        theme=theme_of(request),
        themes=THEMES,
        assets=assets(),
        navigation=[item for item in _NAVIGATION if item[0] == "/" or may(caller, "GET", item[0])],
        here=at or request.scope["path"],
        back=at or _back(request),
        may=_asker(caller),
        who=caller.name.partition(":")[2],
        csrf_token=identity.page_token if identity is not None else "",
        topics=topics if may(caller, "GET", "/events") else "",
        live_place=request.scope.get(PLACE, ""),
        **values,
    )
    return Response(html, status, HEADERS, HTML)


def _asker(caller: Actor) -> Callable[[str, str], bool]:
    return lambda method, path: may(caller, method, path)


def _back(request: Request) -> str:
    query = request.scope["query_string"].decode("ascii", "replace")
    address: str = quote(request.scope["path"]) + (f"?{query}" if query else "")
    return address[:1000]


def own_address(text: str) -> str:
    """Return an address of ours to go back to; "/" for anything that could lead elsewhere."""
    plain = text.isascii() and text.isprintable() and "\\" not in text
    return text if plain and text.startswith("/") and not text.startswith("//") and len(text) <= 1000 else "/"
