"""/api/v1/users: who may come in. For administrators."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import AfterValidator
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import House, InHouse
from api.parameters import Nothing, PageQuery, clean
from api.problems import ProblemError, invalid
from api.queries import people
from api.replies import reply
from api.routes.documented import answers
from api.schemas_access import NewUserOut, UserEdit, UserIn, UserOut, UserPage
from metering.clock import rfc3339
from registry import totp, users
from registry.roles import areas_from, areas_to
from registry.users import UserFacts

router = APIRouter(prefix="/api/v1/users", tags=["access"])

UserPath = Annotated[
    str, Path(min_length=1, max_length=64, description="The user's name.", examples=["li.wei"]), AfterValidator(clean)
]
IfMatch = Annotated[
    str | None, Header(max_length=100, description="ETag of the user that the change was made from; needed.")
]
_ETAG: Final = re.compile(r'(?:W/)?"v(\d{1,18})"', re.ASCII)


@router.get("", summary="List users", **answers(UserPage))
async def list_users(request: Request, house: InHouse, query: Annotated[PageQuery, Query()]) -> Response:
    """All users by name, the disabled ones too; a page of them."""
    page = await house.read(lambda c: people.list_users(c, search="", limit=query.limit, cursor=query.cursor))
    users_out = [_out(user, house) for user in page.items]
    return reply(request, UserPage(items=users_out, next_cursor=page.next_cursor), cached=False)


@router.post("", summary="Make a user", status_code=201, **answers(NewUserOut, status=201))
async def create_user(
    request: Request, house: InHouse, caller: InCaller, body: UserIn, query: Annotated[Nothing, Query()]
) -> Response:
    """The answer holds a one-time password, which nobody can see again."""
    now = house.clock.now_ms()
    user, password = await house.write(
        lambda c: users.create(
            c,
            caller,
            name=body.name,
            display_name=body.display_name,
            roles=body.roles,
            ranks=body.ranks,
            areas=areas_from(body.areas),
            at=now,
            limits=house.access,
        )
    )
    answer = reply(request, NewUserOut(user=_out(user, house), one_time_password=password), cached=False)
    answer.status_code = 201
    answer.headers["location"] = f"/api/v1/users/{quote(user.name, safe='')}"
    return answer


@router.get("/{name}", summary="One user", **answers(UserOut))
async def one_user(request: Request, house: InHouse, name: UserPath, query: Annotated[Nothing, Query()]) -> Response:
    """The ETag of the answer is what a change must name."""
    return _reply(request, house, await house.read(lambda c: users.need(c, name)))


@router.patch("/{name}", summary="Change a user", **answers(UserOut))
async def edit_user(
    request: Request,
    house: InHouse,
    caller: InCaller,
    name: UserPath,
    body: UserEdit,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """What is left out stays. Changed rights end the user's logins; `enabled: false` shuts the user out.

    412 when somebody else changed the user meanwhile, 428 without If-Match.
    """
    version = _version(if_match)
    now = house.clock.now_ms()

    def inside(connection: Connection) -> UserFacts:
        if users.need(connection, name).version != version:
            raise ProblemError(412, "changed-meanwhile", f'user "{name}" was changed meanwhile; look again')
        return users.edit(
            connection,
            caller,
            name,
            version=version,
            at=now,
            display_name=body.display_name,
            roles=body.roles,
            ranks=body.ranks,
            areas=body.areas,
            enabled=body.enabled,
        )

    user = await house.write(inside)
    house.identifier.forget()
    return _reply(request, house, user)


@router.post("/{name}/reset", summary="Give a new one-time password", **answers(NewUserOut))
async def reset_user(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Also unlocks the user and ends all logins."""
    now = house.clock.now_ms()

    def inside(connection: Connection) -> tuple[UserFacts, str]:
        password = users.reset_password(connection, caller, name, at=now, limits=house.access)
        return users.need(connection, name), password

    user, password = await house.write(inside)
    house.identifier.forget()
    return reply(request, NewUserOut(user=_out(user, house), one_time_password=password), cached=False)


@router.post("/{name}/unlock", summary="Forget wrong logins", **answers(UserOut))
async def unlock_user(
    request: Request, house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """The user may try again at once."""
    now = house.clock.now_ms()
    return _reply(request, house, await house.write(lambda c: users.unlock(c, caller, name, at=now)))


@router.delete("/{name}/totp", summary="Take a user's codes away", status_code=204, response_model=None)
async def remove_totp(
    house: InHouse, caller: InCaller, name: UserPath, query: Annotated[Nothing, Query()]
) -> Response:
    """For a lost phone; ends all logins of the user."""
    now = house.clock.now_ms()
    await house.write(lambda c: totp.remove(c, caller, name, at=now))
    house.identifier.forget()
    return Response(status_code=204)


def _version(if_match: str | None) -> int:
    if if_match is None:
        raise ProblemError(428, "if-match-needed", "send the user's ETag as If-Match, so that no change is lost")
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise invalid("if-match", if_match, 'is not the ETag of a user, such as "v3"', place="header")
    return int(found[1])


def _reply(request: Request, house: House, user: UserFacts) -> Response:
    answer = reply(request, _out(user, house), cached=False)
    answer.headers["etag"] = f'"v{user.version}"'
    return answer


def _out(user: UserFacts, house: House) -> UserOut:
    locked = user.locked_until if user.locked_until > house.clock.now_ms() else 0
    return UserOut(
        name=user.name,
        display_name=user.display_name,
        roles=sorted(user.roles),
        ranks=sorted(user.ranks),
        areas=areas_to(user.areas),
        enabled=user.enabled,
        totp=user.totp,
        one_time=user.one_time,
        one_time_until=_moment(user.one_time_until),
        failed=user.failed,
        locked_until=_moment(locked or None),
        last_login_at=_moment(user.last_login_at),
        created_at=rfc3339(user.created_at),
        changed_at=rfc3339(user.changed_at),
        version=user.version,
    )


def _moment(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)
