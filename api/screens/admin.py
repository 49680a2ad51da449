"""What the pages of administration share: their sections by role, how a form is read, how a change is tried."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final, TypeVar

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from api.house import House
from api.parameters import clean
from api.problems import ProblemError
from api.screens.frame import may, page
from registry.refusals import RefusedError
from registry.roles import EVERYWHERE, Actor

T = TypeVar("T")
ROWS: Final = 100
_SECTIONS: Final = (
    ("/admin/users", "users"),
    ("/admin/keys", "keys"),
    ("/admin/audit", "audit"),
    ("/admin/thresholds", "thresholds"),
    ("/admin/outbound", "outbound"),
    ("/admin/storage", "storage"),
)
_FOR_ALL_AREAS: Final = frozenset({"/admin/audit", "/admin/storage"})
"""They speak of the whole house."""


def sections(caller: Actor) -> list[tuple[str, str]]:
    """Return (address, name) of the pages of administration that the caller may open."""
    return [
        (address, name)
        for address, name in _SECTIONS
        if may(caller, "GET", address) and (caller.areas is None or address not in _FOR_ALL_AREAS)
    ]


def require_everywhere(caller: Actor) -> None:
    """Raises: ProblemError 403 for a caller who is limited to areas."""
    if caller.areas is not None:
        raise ProblemError(403, "forbidden", "this page speaks of all areas: only who may see all of them opens it")


async def admin_page(
    house: House, request: Request, caller: Actor, template: str, *, status: int = 200, **values: Any
) -> Response:
    """Return a page of administration with its list of sections."""
    return await page(
        house, request, caller, template, status=status, sections=sections(caller), **{"refused": "", **values}
    )


async def tried(work: Awaitable[T]) -> tuple[T | None, str]:
    """Return (answer, "") or (None, why the change was refused), for the page that the form stood on.

    Raises: RefusedError for what is not there, ProblemError 404 and 5xx.
    """
    try:
        return await work, ""
    except RefusedError as error:
        if error.sort == "unknown":
            raise
        return None, str(error)
    except ProblemError as error:
        if error.status == 404 or error.status >= 500:
            raise
        return None, error.detail


def back_to(address: str, done: str = "") -> Response:
    """Lead to a page after something was done."""
    target = f"{address}?done={done}" if done else address
    return RedirectResponse(target, 303, headers={"cache-control": "no-store"})


def first(lists: Mapping[str, list[str]], name: str, most: int = 200) -> str:
    """Return the first value of a field in one line, "" without one. Raises: RefusedError for what cannot be kept."""
    text = " ".join(lists.get(name, [""])[0].split())
    try:
        text = clean(text)
    except ValueError:
        raise RefusedError("invalid", f"{name}: signs that cannot be kept") from None
    if len(text) > most:
        raise RefusedError("invalid", f"{name}: at most {most} characters")
    return text


def areas_of(text: str) -> list[str]:
    """Return the districts of a field: names with commas between them, or * for all."""
    found = {part.strip() for part in text.replace("，", ",").replace(";", ",").split(",")} - {""}
    return [EVERYWHERE] if EVERYWHERE in found else sorted(found)


def areas_text(areas: Iterable[str] | None) -> str:
    """Return districts as `areas_of` reads them."""
    return EVERYWHERE if areas is None else ", ".join(sorted(areas))
