"""Users and keys in pages, for the screens of administrators."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging
from api.paging import Page
from registry import keys, users
from registry.keys import KeyFacts
from registry.models_access import ApiKey, User
from registry.users import UserFacts

_USERS: Final = "users"
_KEYS: Final = "keys"


def list_users(connection: Connection, *, search: str, limit: int, cursor: str | None) -> Page[UserFacts]:
    """Return one page of users by name. search: a part of the name or the shown name; "" for all."""
    after = paging.text_key(_USERS, cursor)
    wanted = sa.select(User.__table__).order_by(User.name).limit(limit + 1)
    wanted = wanted if after is None else wanted.where(User.name > after)
    if search:
        name = User.name.contains(search.lower(), autoescape=True)
        wanted = wanted.where(name | User.display_name.contains(search, autoescape=True))
    found = [users.facts_of(row) for row in connection.execute(wanted)]
    return paging.page_of(found, limit, _USERS, lambda user: user.name)


def list_keys(connection: Connection, *, good_at: int | None, limit: int, cursor: str | None) -> Page[KeyFacts]:
    """Return one page of keys, newest first. good_at: [ms UTC] only those good then, None for all."""
    wanted = sa.select(ApiKey.id).order_by(ApiKey.created_at.desc(), ApiKey.id).limit(limit + 1)
    if good_at is not None:
        wanted = wanted.where(ApiKey.revoked_at.is_(None), ApiKey.expires_at > good_at)
    if (before := paging.text_key(_KEYS, cursor)) is not None:
        text, _, name = before.partition(" ")
        at = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
        wanted = wanted.where((ApiKey.created_at < at) | ((ApiKey.created_at == at) & (ApiKey.id > name)))
    ids = connection.execute(wanted).scalars().all()
    found = [facts for key in ids if (facts := keys.get(connection, key)) is not None]
    return paging.page_of(found, limit, _KEYS, lambda facts: f"{facts.created_at} {facts.id}")
