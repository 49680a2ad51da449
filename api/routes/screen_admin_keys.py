"""/admin/keys: keys of programs, as plain forms. A key is shown in the answer to the form, and once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_lists
from api.here import Here, InHere
from api.parameters import Cursor, Strict
from api.queries import people
from api.routes.keys import KeyPath
from api.routes.screen_parts import NoQuery, admin_form_page
from api.screens.admin import ROWS, areas_of, back_to, first, tried
from api.screens.frame import attempt
from registry import keys
from registry.keys import KeyFacts
from registry.refusals import RefusedError
from registry.roles import Role, areas_from

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
async def keys_page(here: InHere, query: Annotated[KeysQuery, Query()]) -> Response:
    """Keys, newest first, and a form for a new one."""
    return await _list(here, query)


async def _list(
    here: Here,
    query: KeysQuery,
    *,
    typed: Mapping[str, Any] = _EMPTY,
    refused: str = "",
) -> Response:
    good_at = here.now if query.view == "good" else None
    found, trouble = await attempt(
        here.house.read(lambda c: people.list_keys(c, good_at=good_at, limit=ROWS, cursor=query.cursor))
    )
    return await admin_form_page(
        here, "admin_keys.html", refused=refused,
        found=found, trouble=trouble, query=query, typed=typed, all_roles=Role,
        longest_d=here.house.access.key_longest_d, keep_hours=_KEEP_HOURS,
    )  # fmt: skip


@router.post("/admin/keys")
async def make_key(here: InHere, query: NoQuery) -> Response:
    """Make one; the answer shows the key, which nobody can see again."""
    lists = await checked_lists(here.request)

    def work(connection: Connection) -> tuple[str, KeyFacts]:
        return keys.create(
            connection, here.caller, name=first(lists, "name"), roles=_roles(lists),
            areas=areas_from(areas_of(first(lists, "areas", 4000))), read_only="changes" not in lists,
            expires_at=here.now + _days(lists) * _DAY_MS, at=here.now, limits=here.house.access,
        )  # fmt: skip

    made, refused = await tried(here.house.write(work))
    if made is None:
        return await _list(here, KeysQuery(), typed=_typed(lists), refused=refused)
    return await _once(here, *made)


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


async def _once(here: Here, text: str, facts: KeyFacts) -> Response:
    return await admin_form_page(
        here, "admin_once.html", came_from=_ADDRESS, object=f"{facts.name} ({facts.id})",
        secret=text, sort="key", until=facts.expires_at,
    )  # fmt: skip


@router.post("/admin/keys/{key_id}/rotate")
async def rotate_key(here: InHere, key_id: KeyPath, query: NoQuery) -> Response:
    """A new key with the same rights for as long as the old one was; the old one stays good for some hours."""
    lists = await checked_lists(here.request)
    hours = _KEEP_HOURS.get(lists.get("keep_hours", [""])[0], 24)

    def work(connection: Connection) -> tuple[str, KeyFacts]:
        old = keys.get(connection, key_id)
        if old is None:
            raise RefusedError("unknown", f"there is no key {key_id}")
        longest = here.house.access.key_longest_d * _DAY_MS
        until = here.now + min(longest, max(_DAY_MS, old.expires_at - old.created_at))
        kept = here.now + hours * 3_600_000
        return keys.rotate(
            connection, here.caller, key_id, old_until=kept, expires_at=until, at=here.now, limits=here.house.access
        )

    made, refused = await tried(here.house.write(work))
    if made is None:
        return await _list(here, KeysQuery(), refused=refused)
    here.house.identifier.forget()
    return await _once(here, *made)


@router.post("/admin/keys/{key_id}/revoke")
async def revoke_key(here: InHere, key_id: KeyPath, query: NoQuery) -> Response:
    """End it now."""
    await checked_lists(here.request)
    await here.house.write(lambda c: keys.revoke(c, here.caller, key_id, at=here.now))
    here.house.identifier.forget()
    return back_to(_ADDRESS, "revoked")
