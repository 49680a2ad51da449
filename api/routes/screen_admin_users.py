"""/admin/users: who may come in, as plain forms. A one-time password is shown in the answer to the form, and once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.access.forms import checked_lists
from api.house import House, InHouse
from api.parameters import Cursor, Nothing, Strict, Word
from api.queries import people
from api.routes.users import UserPath
from api.screens.admin import ROWS, admin_page, areas_of, areas_text, back_to, first, tried
from api.screens.frame import attempt
from registry import totp, users
from registry.refusals import RefusedError
from registry.roles import Actor, Rank, Role, areas_from
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
async def users_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[UsersQuery, Query()]
) -> Response:
    """Everybody by name, the disabled ones too, and a form for a new one."""
    return await _list(request, house, caller, query)


async def _list(
    request: Request,
    house: House,
    caller: Actor,
    query: UsersQuery,
    *,
    typed: Mapping[str, Any] = _EMPTY,
    refused: str = "",
) -> Response:
    found, trouble = await attempt(
        house.read(lambda c: people.list_users(c, search=query.search, limit=ROWS, cursor=query.cursor))
    )
    return await admin_page(
        house, request, caller, "admin_users.html", status=422 if refused else 200,
        found=found, trouble=trouble, query=query, typed=typed, refused=refused, all_roles=Role, all_ranks=Rank,
    )  # fmt: skip


@router.post("/admin/users")
async def make_user(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """Make one; the answer shows the one-time password, which nobody can see again."""
    lists, now = await checked_lists(request), house.clock.now_ms()

    def work(connection: Connection) -> tuple[UserFacts, str]:
        return users.create(
            connection, caller, name=first(lists, "name", 64), at=now, limits=house.access,
            **_rights(lists, areas_from),
        )  # fmt: skip

    made, refused = await tried(house.write(work))
    if made is None:
        return await _list(request, house, caller, UsersQuery(), typed=_typed(lists), refused=refused)
    return await _once(request, house, caller, *made)


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


async def _once(request: Request, house: House, caller: Actor, user: UserFacts, password: str) -> Response:
    return await admin_page(
        house, request, caller, "admin_once.html", came_from=_ADDRESS, object=user.name, secret=password,
        sort="password", until=user.one_time_until,
    )  # fmt: skip


@router.get("/admin/users/{name}")
async def user_page(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[UserQuery, Query()]
) -> Response:
    """One user: what he may do, and what can be done about a forgotten password or a lost phone."""
    return await _one(request, house, caller, name, done=query.done)


async def _one(
    request: Request,
    house: House,
    caller: Actor,
    name: str,
    *,
    typed: Mapping[str, Any] | None = None,
    refused: str = "",
    done: str | None = None,
) -> Response:
    user, trouble = await attempt(house.read(lambda c: users.need(c, name)))
    return await admin_page(
        house, request, caller, "admin_user.html", status=422 if refused else 200,
        user=user, name=name, trouble=trouble, typed=typed or _held(user), refused=refused, done=done,
        all_roles=Role, all_ranks=Rank,
    )  # fmt: skip


def _held(user: UserFacts | None) -> Mapping[str, Any]:
    if user is None:
        return _EMPTY
    facts = {"name": user.name, "display_name": user.display_name, "areas": areas_text(user.areas)}
    return {**facts, "roles": user.roles, "ranks": user.ranks}


@router.post("/admin/users/{name}/edit")
async def edit_user(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Change what he may do; changed rights end his logins."""
    lists = await checked_lists(request)
    return await _change(request, house, caller, name, lists, lambda: _rights(lists, lambda areas: areas))


@router.post("/admin/users/{name}/enable")
async def enable_user(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Let him in again."""
    lists = await checked_lists(request)
    return await _change(request, house, caller, name, lists, lambda: {"enabled": True})


@router.post("/admin/users/{name}/disable")
async def disable_user(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Shut him out at once; users are never deleted."""
    lists = await checked_lists(request)
    return await _change(request, house, caller, name, lists, lambda: {"enabled": False})


async def _change(
    request: Request,
    house: House,
    caller: Actor,
    name: str,
    lists: Mapping[str, list[str]],
    values: Callable[[], dict[str, Any]],
) -> Response:
    now = house.clock.now_ms()
    seen = lists.get("version", [""])[0]
    version = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 16 else 0
    _, refused = await tried(house.write(lambda c: users.edit(c, caller, name, version=version, at=now, **values())))
    if refused:
        typed = _typed(lists) if "role" in lists or "areas" in lists else None
        return await _one(request, house, caller, name, typed=typed, refused=refused)
    house.identifier.forget()
    return back_to(f"{_ADDRESS}/{name}", "changed")


@router.post("/admin/users/{name}/reset")
async def reset_user(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """A new one-time password, shown in the answer; ends his logins and his lock."""
    await checked_lists(request)
    now = house.clock.now_ms()

    def work(connection: Connection) -> tuple[UserFacts, str]:
        password = users.reset_password(connection, caller, name, at=now, limits=house.access)
        return users.need(connection, name), password

    made = await house.write(work)
    house.identifier.forget()
    return await _once(request, house, caller, *made)


@router.post("/admin/users/{name}/unlock")
async def unlock_user(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Forget wrong logins."""
    await checked_lists(request)
    now = house.clock.now_ms()
    await house.write(lambda c: users.unlock(c, caller, name, at=now))
    return back_to(f"{_ADDRESS}/{name}", "unlocked")


@router.post("/admin/users/{name}/remove-codes")
async def remove_codes(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """For a lost phone; ends his logins."""
    await checked_lists(request)
    now = house.clock.now_ms()
    await house.write(lambda c: totp.remove(c, caller, name, at=now))
    house.identifier.forget()
    return back_to(f"{_ADDRESS}/{name}", "codes_removed")
