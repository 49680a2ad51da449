"""Keys of programs: `mg_<8 letters>_<secret>`, shown once, stored as a hash, limited by roles, areas and time.

    text, facts = keys.create(connection, actor, name="SCADA", roles=[Role.VIEWER], areas=None, read_only=True,
                              expires_at=now + 90 * DAY_MS, at=now)
    facts = keys.find(connection, text, now)               # a read; None: not a good key
    if facts and facts.touch_due(now): keys.touch(connection, facts.id, now)               # at most once a minute

The part before the second `_` names the key in lists, logs and the audit; the secret has 256 random bits (`secrets`,
see `registry.passwords`), so that a quick hash is enough. Keys never have ranks: a program approves nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from metering.clock import rfc3339
from registry import audit
from registry.models_access import ApiKey
from registry.refusals import RefusedError
from registry.roles import Actor, Role, areas_from, areas_to, may_grant
from registry.settings import AccessSettings

TOUCH_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_ID: Final = re.compile(r"mg_[a-z2-7]{8}")
_FORM: Final = re.compile(rf"({_ID.pattern})_[A-Za-z0-9_-]{{43}}")

_FIND: Final = sa.select(ApiKey.__table__).where(ApiKey.id == sa.bindparam("key"))  # made once: every request asks it


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A key without its secret. actor: who its requests are. Times [ms UTC]; revoked_at, used_at: None for never."""

    id: str
    name: str
    actor: Actor
    created_by: str
    created_at: int
    expires_at: int
    revoked_at: int | None
    used_at: int | None

    def good(self, at: int) -> bool:
        """True while the key opens anything."""
        return self.revoked_at is None and at < self.expires_at

    def touch_due(self, at: int) -> bool:
        """True when `touch` should be called."""
        return self.used_at is None or at - self.used_at >= TOUCH_MS


def create(
    connection: Connection,
    actor: Actor,
    *,
    name: str,
    roles: Iterable[Role],
    areas: frozenset[str] | None,
    read_only: bool,
    expires_at: int,
    at: int,
    limits: AccessSettings | None = None,
) -> tuple[str, KeyFacts]:
    """Make a key and return its text, which nobody can see again, and its facts.

    areas: districts, None for all. Raises: RefusedError (invalid; forbidden: nobody grants what he does not have).
    """
    granted = frozenset(roles)
    _check(name, granted, areas, expires_at, at, limits or AccessSettings())
    if not may_grant(actor, granted, areas):
        raise RefusedError("forbidden", "nobody can give a key roles or areas that he does not have himself")
    return _insert(connection, actor, name, granted, areas, read_only, expires_at, at, note="")


def _check(
    name: str,
    roles: Collection[Role],
    areas: frozenset[str] | None,
    expires_at: int,
    at: int,
    limits: AccessSettings,
) -> None:
    if not name.strip() or len(name) > 200 or not name.isprintable():
        raise RefusedError("invalid", "a key has a name of 1 to 200 printable characters that says who uses it")
    if not roles:
        raise RefusedError("invalid", "a key has at least one role")
    if areas is not None and not areas:
        raise RefusedError("invalid", 'a key has at least one area; "*" stands for all')
    if not at < expires_at <= at + limits.key_longest_d * _DAY_MS:
        raise RefusedError("invalid", f"a key ends in the future, and within {limits.key_longest_d} days")


def _insert(
    connection: Connection,
    actor: Actor,
    name: str,
    roles: frozenset[Role],
    areas: frozenset[str] | None,
    read_only: bool,
    expires_at: int,
    at: int,
    *,
    note: str,
) -> tuple[str, KeyFacts]:
    audit.lock(connection)
    key_id = _free_id(connection)
    text = f"{key_id}_{secrets.token_urlsafe(32)}"
    row = {
        "id": key_id,
        "hash": _digest(text),
        "name": name,
        "roles": sorted(roles),
        "areas": areas_to(areas),
        "read_only": read_only,
        "created_by": actor.name,
        "created_at": at,
        "expires_at": expires_at,
    }
    connection.execute(sa.insert(ApiKey).values(row))
    after = {key: row[key] for key in ("name", "roles", "areas", "read_only")} | {"expires_at": rfc3339(expires_at)}
    audit.append(connection, actor, "key.create", "key", key_id, at=at, after=after, note=note)
    return text, _one(connection, key_id)


def _free_id(connection: Connection) -> str:
    while True:
        key_id = "mg_" + "".join(secrets.choice(_BASE32) for _ in range(8))
        if connection.execute(sa.select(ApiKey.id).where(ApiKey.id == key_id)).first() is None:
            return key_id


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def find(connection: Connection, key_text: str, at: int, *, address: str = "") -> KeyFacts | None:
    """Return the facts of a good key; None when it is unknown, wrong, over or revoked. Writes nothing."""
    form = _FORM.fullmatch(key_text)
    if form is None:
        return None
    row = connection.execute(_FIND, {"key": form[1]}).one_or_none()
    if row is None or not hmac.compare_digest(row.hash, _digest(key_text)):
        return None
    facts = _facts(row, address)
    return facts if facts.good(at) else None


def touch(connection: Connection, key_id: str, at: int) -> None:
    """Note that the key was used. Call it when `facts.touch_due(at)`."""
    due = sa.or_(ApiKey.used_at.is_(None), ApiKey.used_at < at)
    connection.execute(sa.update(ApiKey).where(ApiKey.id == key_id, due).values(used_at=at))


def get(connection: Connection, key_id: str) -> KeyFacts | None:
    """Return a key by its public part, good or not."""
    if _ID.fullmatch(key_id) is None:
        return None
    row = connection.execute(sa.select(ApiKey.__table__).where(ApiKey.id == key_id)).one_or_none()
    return None if row is None else _facts(row)


def list_keys(connection: Connection, *, created_by: str = "", good_at: int | None = None) -> list[KeyFacts]:
    """Return all keys, newest first. created_by: only this actor's. good_at: [ms UTC] only those good then."""
    wanted = sa.select(ApiKey.__table__).order_by(ApiKey.created_at.desc(), ApiKey.id)
    wanted = wanted.where(ApiKey.created_by == created_by) if created_by else wanted
    found = [_facts(row) for row in connection.execute(wanted)]
    return found if good_at is None else [facts for facts in found if facts.good(good_at)]


def revoke(connection: Connection, actor: Actor, key_id: str, *, at: int) -> KeyFacts:
    """End a key now; harmless when it is revoked already. Raises: RefusedError (unknown, forbidden)."""
    audit.lock(connection)
    facts = _owned(connection, actor, key_id)
    if facts.revoked_at is None:
        connection.execute(sa.update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=at))
        audit.append(connection, actor, "key.revoke", "key", key_id, at=at, after={"name": facts.name})
    return _one(connection, key_id)


def rotate(
    connection: Connection,
    actor: Actor,
    key_id: str,
    *,
    old_until: int,
    expires_at: int,
    at: int,
    limits: AccessSettings | None = None,
) -> tuple[str, KeyFacts]:
    """Make a new key in the place of `key_id`, which stays good until `old_until` [ms UTC] and no longer than it was.

    Raises: RefusedError (unknown, conflict when the old one is not good any more, forbidden, invalid).
    """
    audit.lock(connection)
    old = _owned(connection, actor, key_id)
    if not old.good(at):
        raise RefusedError("conflict", f"key {key_id} is not good any more; make a new one")
    _check(old.name, old.actor.roles, old.actor.areas, expires_at, at, limits or AccessSettings())
    ends = max(at, min(old.expires_at, old_until))
    new_text, new = _insert(
        connection,
        actor,
        old.name,
        old.actor.roles,
        old.actor.areas,
        old.actor.read_only,
        expires_at,
        at,
        note=f"in the place of {key_id}",
    )
    connection.execute(sa.update(ApiKey).where(ApiKey.id == key_id).values(expires_at=ends))
    before, after = {"expires_at": rfc3339(old.expires_at)}, {"expires_at": rfc3339(ends), "next": new.id}
    audit.append(connection, actor, "key.rotate", "key", key_id, at=at, before=before, after=after)
    return new_text, new


def _owned(connection: Connection, actor: Actor, key_id: str) -> KeyFacts:
    """A key that the actor may change: an administrator any, everybody else his own within what he has today."""
    facts = get(connection, key_id)
    if facts is None:
        raise RefusedError("unknown", f"there is no key {key_id[:16]}")
    mine = actor.has(Role.ADMIN) or facts.created_by == actor.name
    if not mine or not may_grant(actor, facts.actor.roles, facts.actor.areas):
        raise RefusedError("forbidden", f"key {key_id} is somebody else's, or has more rights than you")
    return facts


def _one(connection: Connection, key_id: str) -> KeyFacts:
    return _facts(connection.execute(sa.select(ApiKey.__table__).where(ApiKey.id == key_id)).one())


def _facts(row: Row[Any], address: str = "") -> KeyFacts:
    roles = frozenset(map(Role, row.roles))
    actor = Actor(f"key:{row.id}", roles, frozenset(), areas_from(row.areas), row.read_only, address)
    times = (row.created_at, row.expires_at, row.revoked_at, row.used_at)
    return KeyFacts(row.id, row.name, actor, row.created_by, *times)
