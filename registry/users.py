"""Users: made, changed and locked out by administrators, every change in the audit.

Functions take a writing connection (`Database.begin`), and first the audit's lock (`audit.lock`), so that two of them
that look before they leap (is another administrator left?) queue. Users are never deleted, because the audit names
them: they are disabled. Logins and passwords are in `registry.logins`, second factors in `registry.totp`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from registry import audit, passwords, sessions
from registry.database import Database
from registry.models_access import User
from registry.refusals import RefusedError
from registry.roles import Actor, Rank, Role, areas_from, areas_to
from registry.settings import AccessSettings

FIRST_ADMIN: Final = "admin"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LONGEST_DISPLAY_NAME: Final = 200
_LONGEST_AREA: Final = 64


@dataclass(frozen=True, slots=True)
class UserFacts:
    """A user without secrets. areas: None for all. totp: gives codes. one_time: must change the password.

    failed: wrong logins in a row. Times [ms UTC], None for never; locked_until 0 when not locked.
    """

    id: int
    name: str
    display_name: str
    roles: frozenset[Role]
    ranks: frozenset[Rank]
    areas: frozenset[str] | None
    enabled: bool
    totp: bool
    one_time: bool
    one_time_until: int | None
    failed: int = field(compare=False)
    locked_until: int = field(compare=False)
    last_login_at: int | None = field(compare=False)
    created_at: int
    changed_at: int
    version: int

    def actor(self, address: str = "") -> Actor:
        """Return who this user is when he does something."""
        return Actor(f"user:{self.name}", self.roles, self.ranks, self.areas, address=address)


def create(
    connection: Connection,
    actor: Actor,
    *,
    name: str,
    display_name: str,
    roles: Iterable[Role],
    ranks: Iterable[Rank],
    areas: frozenset[str] | None,
    at: int,
    limits: AccessSettings | None = None,
) -> tuple[UserFacts, str]:
    """Make a user and return him with his one-time password. areas: districts, None for all.

    Raises: RefusedError (invalid, forbidden, conflict when the name is taken).
    """
    _only_admins(actor)
    if not is_name(name):
        raise RefusedError(
            "invalid", "a user's name has 1 to 64 of a-z, 0-9, dot, - and _, and begins with a-z or 0-9"
        )
    _check_display_name(display_name)
    chosen, ranked = frozenset(roles), frozenset(ranks)
    _check_rights(chosen, areas)
    audit.lock(connection)
    if connection.execute(sa.select(User.id).where(User.name == name)).first():
        raise RefusedError("conflict", f'there is a user "{name}" already')
    password = passwords.one_time_password()
    row: dict[str, Any] = {"name": name, "display_name": display_name, "enabled": True, "version": 1}
    row |= _rights(chosen, ranked, areas) | _one_time(password, at, limits or AccessSettings())
    row |= {"created_at": at, "changed_at": at}
    connection.execute(sa.insert(User).values(row))
    after = {"display_name": display_name, **_rights(chosen, ranked, areas)}
    audit.append(connection, actor, "user.create", "user", name, at=at, after=after)
    return need(connection, name), password


def _one_time(password: str, at: int, limits: AccessSettings) -> dict[str, Any]:
    until = at + limits.one_time_h * 3_600_000
    return {"password_hash": passwords.hash_one_time(password), "one_time": True, "one_time_until": until}


def is_name(text: str) -> bool:
    """True when a user may be called so; what is typed at a login may be anything."""
    return _NAME.fullmatch(text) is not None


def get(connection: Connection, name: str) -> UserFacts | None:
    """Return a user by name."""
    if not is_name(name):
        return None
    row = connection.execute(sa.select(User.__table__).where(User.name == name)).one_or_none()
    return None if row is None else facts_of(row)


def need(connection: Connection, name: str) -> UserFacts:
    """Return a user by name. Raises: RefusedError (unknown)."""
    if (found := get(connection, name)) is None:
        raise RefusedError("unknown", f'there is no user "{name}"')
    return found


def list_users(connection: Connection) -> list[UserFacts]:
    """Return all users by name."""
    return [facts_of(row) for row in connection.execute(sa.select(User.__table__).order_by(User.name))]


def edit(
    connection: Connection,
    actor: Actor,
    name: str,
    *,
    version: int | None,
    at: int,
    display_name: str | None = None,
    roles: Iterable[Role] | None = None,
    ranks: Iterable[Rank] | None = None,
    areas: Iterable[str] | None = None,
    enabled: bool | None = None,
) -> UserFacts:
    """Change what is given and return the user; changed rights end his sessions. areas: districts, or ["*"] for all.

    version: of the user that the change was made from; None changes whatever is there (the command line).
    Raises: RefusedError (unknown, forbidden, invalid; conflict: somebody was faster, or no administrator is left).
    """
    _only_admins(actor)
    audit.lock(connection)
    old = need(connection, name)
    if version is not None and version != old.version:
        raise RefusedError("conflict", f'user "{name}" was changed meanwhile; look again')
    before = {"display_name": old.display_name, "enabled": old.enabled, **_rights(old.roles, old.ranks, old.areas)}
    after: dict[str, Any] = _rights(
        old.roles if roles is None else roles,
        old.ranks if ranks is None else ranks,
        old.areas if areas is None else areas_from(areas),
    )
    after["display_name"] = old.display_name if display_name is None else display_name
    after["enabled"] = old.enabled if enabled is None else enabled
    _check_display_name(after["display_name"])
    _check_rights(frozenset(map(Role, after["roles"])), areas_from(after["areas"]))
    changed = {key: value for key, value in after.items() if value != before[key]}
    if not changed:
        return old
    if old.enabled and Role.ADMIN in old.roles and not (after["enabled"] and Role.ADMIN in after["roles"]):
        _leave_an_admin(connection, old)
    _update(connection, old.id, at, **changed)
    if changed.keys() - {"display_name"}:
        sessions.close_all(connection, old.id)
    was = {key: before[key] for key in changed}
    audit.append(connection, actor, "user.edit", "user", name, at=at, before=was, after=changed)
    return need(connection, name)


def reset_password(
    connection: Connection, actor: Actor, name: str, *, at: int, limits: AccessSettings | None = None
) -> str:
    """Give a user a new one-time password, unlock him, end his sessions.

    Raises: RefusedError (unknown, forbidden).
    """
    _only_admins(actor)
    audit.lock(connection)
    user = need(connection, name)
    password = passwords.one_time_password()
    new = _one_time(password, at, limits or AccessSettings())
    _update(connection, user.id, at, failed=0, locked_until=0, **new)
    sessions.close_all(connection, user.id)
    audit.append(connection, actor, "user.reset_password", "user", name, at=at)
    return password


def unlock(connection: Connection, actor: Actor, name: str, *, at: int) -> UserFacts:
    """Forget a user's wrong logins. Raises: RefusedError (unknown, forbidden)."""
    _only_admins(actor)
    audit.lock(connection)
    user = need(connection, name)
    connection.execute(sa.update(User).where(User.id == user.id).values(failed=0, locked_until=0))
    audit.append(connection, actor, "user.unlock", "user", name, at=at, before={"failed": user.failed})
    return need(connection, name)


def first_admin(database: Database, at: int, limits: AccessSettings | None = None) -> tuple[str, str] | None:
    """Make the first administrator when there is none: name and one-time password, to be printed once; else None.

    Two programs that start at once make one: the second finds the first one's. As the last administrator stays, there
    is never a second first one.
    """
    with database.read() as connection:
        if _administrators(connection):
            return None
    with database.begin() as connection:
        audit.lock(connection)
        if _administrators(connection):
            return None
        name = FIRST_ADMIN if get(connection, FIRST_ADMIN) is None else f"{FIRST_ADMIN}-{secrets.token_hex(3)}"
        _, password = create(
            connection,
            Actor("service:first-start", frozenset({Role.ADMIN}), areas=None),
            name=name,
            display_name="Administrator",
            roles=(Role.ADMIN,),
            ranks=(),
            areas=None,
            at=at,
            limits=limits,
        )
        return name, password


def _administrators(connection: Connection, *, but: int = 0) -> bool:
    """Whether somebody enabled is an administrator. but: leave out the user with this id."""
    others = sa.select(User.roles).where(User.enabled, User.id != but)
    return any(Role.ADMIN in roles for roles in connection.execute(others).scalars())


def ready(connection: Connection) -> bool:
    """True when an enabled administrator has a password of his own; until then only loopback may be served."""
    mine = sa.select(User.roles).where(User.enabled, sa.not_(User.one_time), User.password_hash != "")
    return any(Role.ADMIN in roles for roles in connection.execute(mine).scalars())


def facts_of(row: Row[Any]) -> UserFacts:
    """Return the facts of a whole row of `user_account`."""
    return UserFacts(
        id=row.id,
        name=row.name,
        display_name=row.display_name,
        roles=frozenset(map(Role, row.roles)),
        ranks=frozenset(map(Rank, row.ranks)),
        areas=areas_from(row.areas),
        enabled=row.enabled,
        totp=bool(row.totp_secret),
        one_time=row.one_time,
        one_time_until=row.one_time_until,
        failed=row.failed,
        locked_until=row.locked_until,
        last_login_at=row.last_login_at,
        created_at=row.created_at,
        changed_at=row.changed_at,
        version=row.version,
    )


def _only_admins(actor: Actor) -> None:
    if actor.read_only or not actor.has(Role.ADMIN):
        raise RefusedError("forbidden", "only an administrator may change users")


def _check_display_name(text: str) -> None:
    if len(text) > _LONGEST_DISPLAY_NAME or not text.isprintable():
        raise RefusedError("invalid", f"a shown name has at most {_LONGEST_DISPLAY_NAME} printable characters")


def _check_rights(roles: Collection[Role], areas: frozenset[str] | None) -> None:
    if not roles:
        raise RefusedError("invalid", "a user has at least one role; disable him instead")
    for area in areas or ():
        if not area.strip() or len(area) > _LONGEST_AREA or not area.isprintable():
            raise RefusedError("invalid", f"an area is the name of a district, at most {_LONGEST_AREA} characters")


def _rights(roles: Iterable[Role], ranks: Iterable[Rank], areas: frozenset[str] | None) -> dict[str, Any]:
    """As stored: sorted lists of words."""
    return {
        "roles": sorted({str(role) for role in roles}),
        "ranks": sorted({str(rank) for rank in ranks}),
        "areas": areas_to(areas),
    }


def _leave_an_admin(connection: Connection, user: UserFacts) -> None:
    if not _administrators(connection, but=user.id):
        raise RefusedError("conflict", f'"{user.name}" is the last administrator; make another one first')


def _update(connection: Connection, user_id: int, at: int, **values: Any) -> None:
    row = sa.update(User).where(User.id == user_id)
    connection.execute(row.values(changed_at=at, version=User.version + 1, **values))
