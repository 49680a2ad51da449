"""Logins in a browser: rows that the server can end at any moment, found by the hash of the browser's token.

    token, csrf = sessions.open_session(connection, user.id, address, now, limits, version=user.version)
    facts = sessions.find(connection, token, now)          # a read; None: log in again
    if facts and facts.touch_due(now): sessions.touch(connection, facts, now, limits)      # at most once a minute

The token has 256 random bits; the table holds its SHA-256 alone (that many random bits need no slow hash). The page
token is as random and does not follow from it: whoever stole a cookie can work out nothing that changes something. It
stands in the table as it is, so that every page of a login shows the same one, and is worth nothing without the
cookie. `secrets` is right here, see `registry.passwords`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import audit
from registry.database import Database
from registry.models_access import Session, User
from registry.refusals import RefusedError
from registry.roles import Actor, Rank, Role, areas_from
from registry.settings import AccessSettings

TOUCH_MS: Final = 60_000
_LONGEST_TOKEN: Final = 64

_FIND: Final = (  # made once: every request asks it
    sa.select(Session.id, Session.user_id, Session.csrf, Session.created_at, Session.seen_at, Session.expires_at)
    .add_columns(User.name, User.display_name, User.roles, User.ranks, User.areas, User.one_time)
    .add_columns(User.one_time_until, User.totp_secret, User.version)
    .join(User, User.id == Session.user_id)
    .where(Session.id == sa.bindparam("token"), User.enabled)
)


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Whose session it is. id: the token's hash. must_change: only the password may be changed. totp: he gives codes.

    Times [ms UTC]; version: the user's, for the next change of him.
    """

    id: str
    user_id: int
    actor: Actor
    display_name: str
    page_token: str
    must_change: bool
    totp: bool
    created_at: int
    seen_at: int
    expires_at: int
    version: int

    @property
    def user_name(self) -> str:
        """The user's name without the word before it."""
        return self.actor.name.removeprefix("user:")

    def csrf_fits(self, token: str) -> bool:
        """True when a page's token belongs to this session."""
        return hmac.compare_digest(digest(self.page_token), digest(token))

    def must_enrol(self, totp_roles: Collection[Role]) -> bool:
        """True when one of the user's roles asks for TOTP codes and he has no secret yet: only enrolling is open."""
        return not self.totp and self.actor.has(*totp_roles)

    def touch_due(self, at: int) -> bool:
        """True when `touch` should be called."""
        return at - self.seen_at >= TOUCH_MS


def digest(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def open_session(
    connection: Connection, user_id: int, address: str, at: int, limits: AccessSettings, *, version: int | None = None
) -> tuple[str, str]:
    """Open a session after a login and return its token and its page token.

    version: the user's, as the login saw it; when he was changed since (password, roles, disabled) no session opens.
    Raises: RefusedError (conflict, unknown).
    """
    user = connection.execute(
        sa.select(User.version, User.enabled).where(User.id == user_id).with_for_update()
    ).first()
    if user is None:
        raise RefusedError("unknown", "there is no such user")
    if not user.enabled or (version is not None and user.version != version):
        raise RefusedError("conflict", "the user was changed meanwhile; log in again")
    _make_room(connection, user_id, limits.sessions_per_user)
    token = secrets.token_urlsafe(32)
    csrf = secrets.token_urlsafe(32)
    row = {
        "id": digest(token),
        "user_id": user_id,
        "csrf": csrf,
        "created_at": at,
        "seen_at": at,
        "expires_at": _end(at, at, limits),
        "address": address[:64],
    }
    connection.execute(sa.insert(Session).values(row))
    return token, csrf


def _make_room(connection: Connection, user_id: int, most: int) -> None:
    mine = sa.select(Session.id).where(Session.user_id == user_id).order_by(Session.seen_at.desc())
    surplus = connection.execute(mine.offset(most - 1)).scalars().all()
    if surplus:
        connection.execute(sa.delete(Session).where(Session.id.in_(surplus)))


def _end(created_at: int, seen_at: int, limits: AccessSettings) -> int:
    return min(created_at + limits.session_longest_h * 3_600_000, seen_at + limits.session_idle_min * 60_000)


def find(connection: Connection, token: str, at: int, *, address: str = "") -> SessionFacts | None:
    """Return the session of a token; None when it is unknown or over, or its user is disabled. Writes nothing."""
    if not token or len(token) > _LONGEST_TOKEN:
        return None
    row = connection.execute(_FIND, {"token": digest(token)}).one_or_none()
    if row is None or row.expires_at <= at or (row.one_time and (row.one_time_until or 0) <= at):
        return None
    roles, ranks = frozenset(map(Role, row.roles)), frozenset(map(Rank, row.ranks))
    return SessionFacts(
        id=row.id,
        user_id=row.user_id,
        actor=Actor(f"user:{row.name}", roles, ranks, areas_from(row.areas), address=address),
        display_name=row.display_name,
        page_token=row.csrf,
        must_change=row.one_time,
        totp=bool(row.totp_secret),
        created_at=row.created_at,
        seen_at=row.seen_at,
        expires_at=row.expires_at,
        version=row.version,
    )


def touch(connection: Connection, facts: SessionFacts, at: int, limits: AccessSettings) -> None:
    """Note that the session lives; moves its idle limit. Call it when `facts.touch_due(at)`."""
    found = sa.update(Session).where(Session.id == facts.id, Session.seen_at < at)
    connection.execute(found.values(seen_at=at, expires_at=_end(facts.created_at, at, limits)))


def touch_watched(database: Database, ids: Sequence[str], at: int, limits: AccessSettings) -> None:
    """Note that pages of these sessions are open and watched; writes only for those whose `touch` is due."""
    due = sa.and_(Session.seen_at <= at - TOUCH_MS, Session.expires_at > at)
    longest, idle_end = limits.session_longest_h * 3_600_000, at + limits.session_idle_min * 60_000
    # `_end`, worked out by the database for all of them at once
    end = sa.case((Session.created_at + longest < idle_end, Session.created_at + longest), else_=idle_end)
    for start in range(0, len(ids), 500):
        wanted = sa.and_(Session.id.in_(ids[start : start + 500]), due)
        with database.read() as connection:
            found = connection.execute(sa.select(Session.id).where(wanted).limit(1)).first()
        if found is not None:
            with database.begin() as connection:
                connection.execute(sa.update(Session).where(wanted).values(seen_at=at, expires_at=end))


def close(connection: Connection, session_id: str) -> None:
    """End one session (`facts.id`); harmless twice."""
    connection.execute(sa.delete(Session).where(Session.id == session_id))


def close_all(connection: Connection, user_id: int, *, keep: str = "") -> int:
    """End all sessions of a user, but for the one with id `keep`; returns how many."""
    gone = connection.execute(sa.delete(Session).where(Session.user_id == user_id, Session.id != keep))
    return gone.rowcount


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A login as its owner sees it. id: the token's hash, which opens nothing. Times [ms UTC]."""

    id: str
    created_at: int
    seen_at: int
    expires_at: int
    address: str


def list_of(connection: Connection, user_id: int, at: int) -> list[OpenSession]:
    """Return the sessions of a user that are not over, the one seen last first."""
    columns = (Session.id, Session.created_at, Session.seen_at, Session.expires_at, Session.address)
    mine = sa.select(*columns).where(Session.user_id == user_id, Session.expires_at > at)
    return [OpenSession(*row) for row in connection.execute(mine.order_by(Session.seen_at.desc(), Session.id))]


def end_own(connection: Connection, actor: Actor, facts: SessionFacts, session_id: str, *, at: int) -> int:
    """End one session of the user, or with "" all others than `facts`; returns how many. Audited."""
    if session_id:
        one = sa.delete(Session).where(Session.user_id == facts.user_id, Session.id == session_id)
        ended = connection.execute(one).rowcount
    else:
        ended = close_all(connection, facts.user_id, keep=facts.id)
    if ended:
        audit.append(connection, actor, "user.end_sessions", "user", facts.user_name, at=at, after={"ended": ended})
    return ended


def sweep(connection: Connection, at: int) -> int:
    """Remove the rows of sessions that are over; returns how many."""
    return connection.execute(sa.delete(Session).where(Session.expires_at <= at)).rowcount
