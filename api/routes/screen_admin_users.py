"""/admin/users: who may come in, as plain forms. A one-time password is shown in the answer to the form, and once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_lists
from api.here import Here, InHere
from api.parameters import Cursor, Strict, Word
from api.queries import people
from api.routes.screen_parts import NoQuery, admin_form_page
from api.routes.users import UserPath
from api.screens.admin import ROWS, areas_of, areas_text, back_to, first, tried
from api.screens.admin_thresholds import version_of
from api.screens.frame import attempt
from registry import totp, users
from registry.refusals import RefusedError
from registry.roles import Rank, Role, areas_from
from registry.users import UserFacts

router = APIRouter(include_in_schema=False)
_ADDRESS: Final = "/admin/users"
_EMPTY: Final[Mapping[str, Any]] = {"name": "", "display_name": "", "roles": (), "ranks": (), "areas": ""}
_Done = Literal["changed", "unlocked", "codes_removed"]


class UsersQuery(Strict):
    """What is looked for, and where the list goes on."""

    search: Word | Literal[""] = ""
    cursor: Cursor | None = None


class UserQuery(Strict):
    """What became of the form that led here."""

    done: _Done | None = None


@router.get("/admin/users")
async def users_page(here: InHere, query: Annotated[UsersQuery, Query()]) -> Response:
    """Everybody by name, the disabled ones too, and a form for a new one."""
    return await _list(here, query)


async def _list(
    here: Here,
    query: UsersQuery,
    *,
    typed: Mapping[str, Any] = _EMPTY,
    refused: str = "",
) -> Response:
    found, trouble = await attempt(
        here.house.read(lambda c: people.list_users(c, search=query.search, limit=ROWS, cursor=query.cursor))
    )
    return await admin_form_page(
        here, "admin_users.html", refused=refused,
        found=found, trouble=trouble, query=query, typed=typed, all_roles=Role, all_ranks=Rank,
    )  # fmt: skip


@router.post("/admin/users")
async def make_user(here: InHere, query: NoQuery) -> Response:
    """Make one; the answer shows the one-time password, which nobody can see again."""
    lists = await checked_lists(here.request)

    def work(connection: Connection) -> tuple[UserFacts, str]:
        return users.create(
            connection, here.caller, name=first(lists, "name", 64), at=here.now, limits=here.house.access,
            **_rights(lists, areas_from),
        )  # fmt: skip

    made, refused = await tried(here.house.write(work))
    if made is None:
        return await _list(here, UsersQuery(), typed=_typed(lists), refused=refused)
    return await _once(here, *made)


def _rights(lists: Mapping[str, list[str]], areas: Callable[[list[str]], Any]) -> dict[str, Any]:
    """Raises: RefusedError for words that are no roles or ranks."""
    try:
        roles = [Role(word) for word in lists.get("role", [])]
        ranks = [Rank(word) for word in lists.get("rank", [])]
    except ValueError:
        raise RefusedError("invalid", "there is no such role or rank") from None
    named = areas(areas_of(first(lists, "areas", 4000)))
    return {"display_name": first(lists, "display_name"), "roles": roles, "ranks": ranks, "areas": named}


def _typed(lists: Mapping[str, list[str]]) -> dict[str, Any]:
    """What stood in the form, for the form that is shown again."""
    texts = {name: lists.get(name, [""])[0][:4000] for name in ("name", "display_name", "areas")}
    return {**texts, "roles": lists.get("role", []), "ranks": lists.get("rank", [])}


async def _once(here: Here, user: UserFacts, password: str) -> Response:
    return await admin_form_page(
        here, "admin_once.html", came_from=_ADDRESS, object=user.name, secret=password,
        sort="password", until=user.one_time_until,
    )  # fmt: skip


@router.get("/admin/users/{name}")
async def user_page(here: InHere, name: UserPath, query: Annotated[UserQuery, Query()]) -> Response:
    """One user: what he may do, and what can be done about a forgotten password or a lost phone."""
    return await _one(here, name, done=query.done)


async def _one(
    here: Here,
    name: str,
    *,
    typed: Mapping[str, Any] | None = None,
    refused: str = "",
    done: str | None = None,
) -> Response:
    user, trouble = await attempt(here.house.read(lambda c: users.need(c, name)))
    return await admin_form_page(
        here, "admin_user.html", refused=refused,
        user=user, name=name, trouble=trouble, typed=typed or _held(user), done=done,
        all_roles=Role, all_ranks=Rank,
    )  # fmt: skip


def _held(user: UserFacts | None) -> Mapping[str, Any]:
    if user is None:
        return _EMPTY
    facts = {"name": user.name, "display_name": user.display_name, "areas": areas_text(user.areas)}
    return {**facts, "roles": user.roles, "ranks": user.ranks}


@router.post("/admin/users/{name}/edit")
async def edit_user(here: InHere, name: UserPath, query: NoQuery) -> Response:
    """Change what he may do; changed rights end his logins."""
    lists = await checked_lists(here.request)
    return await _change(here, name, lists, lambda: _rights(lists, lambda areas: areas))


@router.post("/admin/users/{name}/enable")
async def enable_user(here: InHere, name: UserPath, query: NoQuery) -> Response:
    """Let him in again."""
    lists = await checked_lists(here.request)
    return await _change(here, name, lists, lambda: {"enabled": True})


@router.post("/admin/users/{name}/disable")
async def disable_user(here: InHere, name: UserPath, query: NoQuery) -> Response:
    """Shut him out at once; users are never deleted."""
    lists = await checked_lists(here.request)
    return await _change(here, name, lists, lambda: {"enabled": False})


async def _change(
    here: Here,
    name: str,
    lists: Mapping[str, list[str]],
    values: Callable[[], dict[str, Any]],
) -> Response:
    def work(connection: Connection) -> object:
        version = version_of(lists) or 0
        return users.edit(connection, here.caller, name, version=version, at=here.now, **values())

    _, refused = await tried(here.house.write(work))
    if refused:
        typed = _typed(lists) if "role" in lists or "areas" in lists else None
        return await _one(here, name, typed=typed, refused=refused)
    here.house.identifier.forget()
    return back_to(f"{_ADDRESS}/{name}", "changed")


@router.post("/admin/users/{name}/reset")
async def reset_user(here: InHere, name: UserPath, query: NoQuery) -> Response:
    """A new one-time password, shown in the answer; ends his logins and his lock."""
    await checked_lists(here.request)

    def work(connection: Connection) -> tuple[UserFacts, str]:
        password = users.reset_password(connection, here.caller, name, at=here.now, limits=here.house.access)
        return users.need(connection, name), password

    made = await here.house.write(work)
    here.house.identifier.forget()
    return await _once(here, *made)


@router.post("/admin/users/{name}/unlock")
async def unlock_user(here: InHere, name: UserPath, query: NoQuery) -> Response:
    """Forget wrong logins."""
    await checked_lists(here.request)
    await here.house.write(lambda c: users.unlock(c, here.caller, name, at=here.now))
    return back_to(f"{_ADDRESS}/{name}", "unlocked")


@router.post("/admin/users/{name}/remove-codes")
async def remove_codes(here: InHere, name: UserPath, query: NoQuery) -> Response:
    """For a lost phone; ends his logins."""
    await checked_lists(here.request)
    await here.house.write(lambda c: totp.remove(c, here.caller, name, at=here.now))
    here.house.identifier.forget()
    return back_to(f"{_ADDRESS}/{name}", "codes_removed")
