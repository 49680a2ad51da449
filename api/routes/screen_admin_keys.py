"""/admin/keys: keys of programs, as plain forms. A key is shown in the answer to the form, and once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.access.forms import checked_lists
from api.house import House, InHouse
from api.parameters import Cursor, Nothing, Strict
from api.queries import people
from api.routes.keys import KeyPath
from api.screens.admin import ROWS, admin_page, areas_of, back_to, first, tried
from api.screens.frame import attempt
from registry import keys
from registry.keys import KeyFacts
from registry.refusals import RefusedError
from registry.roles import Actor, Role, areas_from

router = APIRouter(include_in_schema=False)
_ADDRESS: Final = "/admin/keys"
_DAY_MS: Final = 86_400_000
_EMPTY: Final[Mapping[str, Any]] = {"name": "", "roles": (), "areas": "", "days": "90", "changes": False}
_KEEP_HOURS: Final = {"0": 0, "24": 24, "168": 168}
"""How long the old key may stay good when it is replaced [h]."""


class KeysQuery(Strict):
    """Which keys, where the list goes on, and what became of the form that led here."""

    view: Literal["good", "all"] = "good"
    cursor: Cursor | None = None
    done: Literal["revoked"] | None = None


@router.get("/admin/keys")
async def keys_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[KeysQuery, Query()]
) -> Response:
    """Keys, newest first, and a form for a new one."""
    return await _list(request, house, caller, query)


async def _list(
    request: Request,
    house: House,
    caller: Actor,
    query: KeysQuery,
    *,
    typed: Mapping[str, Any] = _EMPTY,
    refused: str = "",
) -> Response:
    now = house.clock.now_ms()
    good_at = now if query.view == "good" else None
    found, trouble = await attempt(
        house.read(lambda c: people.list_keys(c, good_at=good_at, limit=ROWS, cursor=query.cursor))
    )
    return await admin_page(
        house, request, caller, "admin_keys.html", status=422 if refused else 200,
        found=found, trouble=trouble, query=query, typed=typed, refused=refused, all_roles=Role,
        longest_d=house.access.key_longest_d, keep_hours=_KEEP_HOURS,
    )  # fmt: skip


@router.post("/admin/keys")
async def make_key(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """Make one; the answer shows the key, which nobody can see again."""
    lists, now = await checked_lists(request), house.clock.now_ms()

    def work(connection: Connection) -> tuple[str, KeyFacts]:
        return keys.create(
            connection, caller, name=first(lists, "name"), roles=_roles(lists),
            areas=areas_from(areas_of(first(lists, "areas", 4000))), read_only="changes" not in lists,
            expires_at=now + _days(lists) * _DAY_MS, at=now, limits=house.access,
        )  # fmt: skip

    made, refused = await tried(house.write(work))
    if made is None:
        return await _list(request, house, caller, KeysQuery(), typed=_typed(lists), refused=refused)
    return await _once(request, house, caller, *made)


def _roles(lists: Mapping[str, list[str]]) -> list[Role]:
    try:
        return [Role(word) for word in lists.get("role", [])]
    except ValueError:
        raise RefusedError("invalid", "there is no such role") from None


def _days(lists: Mapping[str, list[str]]) -> int:
    text = first(lists, "days", 6)
    if not (text.isascii() and text.isdigit()):
        raise RefusedError("invalid", "a key ends after a whole number of days")
    return int(text)


def _typed(lists: Mapping[str, list[str]]) -> dict[str, Any]:
    texts = {name: lists.get(name, [""])[0][:4000] for name in ("name", "areas", "days")}
    return {**texts, "roles": lists.get("role", []), "changes": "changes" in lists}


async def _once(request: Request, house: House, caller: Actor, text: str, facts: KeyFacts) -> Response:
    return await admin_page(
        house, request, caller, "admin_once.html", came_from=_ADDRESS, object=f"{facts.name} ({facts.id})",
        secret=text, sort="key", until=facts.expires_at,
    )  # fmt: skip


@router.post("/admin/keys/{key_id}/rotate")
async def rotate_key(
    request: Request, house: InHouse, caller: InCaller, key_id: KeyPath, query: Annotated[Nothing, Query()]
) -> Response:
    """A new key with the same rights for as long as the old one was; the old one stays good for some hours."""
    lists, now = await checked_lists(request), house.clock.now_ms()
    hours = _KEEP_HOURS.get(lists.get("keep_hours", [""])[0], 24)

    def work(connection: Connection) -> tuple[str, KeyFacts]:
        old = keys.get(connection, key_id)
        if old is None:
            raise RefusedError("unknown", f"there is no key {key_id}")
        longest = house.access.key_longest_d * _DAY_MS
        until = now + min(longest, max(_DAY_MS, old.expires_at - old.created_at))
        kept = now + hours * 3_600_000
        return keys.rotate(connection, caller, key_id, old_until=kept, expires_at=until, at=now, limits=house.access)

    made, refused = await tried(house.write(work))
    if made is None:
        return await _list(request, house, caller, KeysQuery(), refused=refused)
    house.identifier.forget()
    return await _once(request, house, caller, *made)


@router.post("/admin/keys/{key_id}/revoke")
async def revoke_key(
    request: Request, house: InHouse, caller: InCaller, key_id: KeyPath, query: Annotated[Nothing, Query()]
) -> Response:
    """End it now."""
    await checked_lists(request)
    now = house.clock.now_ms()
    await house.write(lambda c: keys.revoke(c, caller, key_id, at=now))
    house.identifier.forget()
    return back_to(_ADDRESS, "revoked")
