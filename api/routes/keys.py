"""/api/v1/keys: keys of programs. For administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api import words
from api.access.caller import InCaller
from api.house import InHouse
from api.parameters import Nothing, PageQuery
from api.queries import people
from api.replies import reply
from api.routes.documented import answers
from api.schemas_access import KeyIn, KeyOut, KeyPage, NewKeyOut, RotateIn
from metering.clock import rfc3339
from registry import keys
from registry.keys import KeyFacts
from registry.roles import areas_from, areas_to

router = APIRouter(prefix="/api/v1/keys", tags=["access"])

KeyPath = Annotated[
    str, Path(min_length=1, max_length=16, pattern="^[a-z0-9_]+$", description="Its id.", examples=["mg_ab12cd34"])
]


@router.get("", summary="List keys", **answers(KeyPage))
async def list_keys(request: Request, house: InHouse, query: Annotated[PageQuery, Query()]) -> Response:
    """All keys, newest first, the ended ones too; a page of them; never their secrets."""
    page = await house.read(lambda c: people.list_keys(c, good_at=None, limit=query.limit, cursor=query.cursor))
    keys_out = [_out(facts) for facts in page.items]
    return reply(request, KeyPage(items=keys_out, next_cursor=page.next_cursor), cached=False)


@router.post("", summary="Make a key", status_code=201, **answers(NewKeyOut, status=201))
async def create_key(
    request: Request, house: InHouse, caller: InCaller, body: KeyIn, query: Annotated[Nothing, Query()]
) -> Response:
    """The answer holds the key's text, which nobody can see again."""
    now = house.clock.now_ms()
    text, facts = await house.write(
        lambda c: keys.create(
            c,
            caller,
            name=body.name,
            roles=body.roles,
            areas=areas_from(body.areas),
            read_only=body.read_only,
            expires_at=body.expires_at,
            at=now,
            limits=house.access,
        )
    )
    return _made(request, text, facts)


@router.post("/{key_id}/rotate", summary="Replace a key", status_code=201, **answers(NewKeyOut, status=201))
async def rotate_key(
    request: Request,
    house: InHouse,
    caller: InCaller,
    key_id: KeyPath,
    body: RotateIn,
    query: Annotated[Nothing, Query()],
) -> Response:
    """A new key with the same rights; the old one works until `old_until`, so that nothing is interrupted."""
    now = house.clock.now_ms()
    text, facts = await house.write(
        lambda c: keys.rotate(
            c,
            caller,
            key_id,
            old_until=body.old_until,
            expires_at=body.expires_at,
            at=now,
            limits=house.access,
        )
    )
    house.identifier.forget()
    return _made(request, text, facts)


@router.delete("/{key_id}", summary="Revoke a key", **answers(KeyOut))
async def revoke_key(
    request: Request, house: InHouse, caller: InCaller, key_id: KeyPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Ends it now; other API processes learn of it within `api.identity_cache_s`."""
    now = house.clock.now_ms()
    facts = await house.write(lambda c: keys.revoke(c, caller, key_id, at=now))
    house.identifier.forget()
    return reply(request, _out(facts), cached=False)


def _made(request: Request, text: str, facts: KeyFacts) -> Response:
    answer = reply(request, NewKeyOut(facts=_out(facts), key=text), cached=False)
    answer.status_code = 201
    return answer


def _out(facts: KeyFacts) -> KeyOut:
    return KeyOut(
        id=facts.id,
        name=facts.name,
        roles=sorted(facts.actor.roles),
        areas=areas_to(facts.actor.areas),
        read_only=facts.actor.read_only,
        created_by=facts.created_by,
        created_at=rfc3339(facts.created_at),
        expires_at=rfc3339(facts.expires_at),
        revoked_at=words.moment(facts.revoked_at),
        used_at=words.moment(facts.used_at),
    )
