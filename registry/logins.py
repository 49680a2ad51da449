"""Logins: password, code, and a lock that grows with every wrong try.

A try has three parts: look at the row (a read), check the password (slow, outside of any transaction), and write down
what came of it in one short transaction that looks at the row again: whoever was locked, changed or used up meanwhile
does not come in, so that many tries at once gain nothing. Counters are committed although the login fails.

- Unknown names cost the same time and are locked the same way, counted by the name's hash in `BUCKETS` buckets.
- Of wrong tries the audit gets the first and one for each lock, with the number of tries; so a brute force writes at
  most a row an hour and account, and none of them holds what was typed for a name that does not exist.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from metering.clock import rfc3339
from registry import audit, passwords, sessions, totp
from registry.database import Database
from registry.ledger import upsert
from registry.models_access import UnknownLogin, User
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from registry.settings import AccessSettings
from registry.users import UserFacts, is_name, need

BUCKETS: Final = 256
_NOBODY: Final = "(unknown)"


class LoginSort(StrEnum):
    """What a login came to. The first three open a session; must_change and must_enrol open it for that alone.

    wrong: name, password or code. code_needed: all right so far. disabled, expired (a one-time password): the
    password was right, an administrator must act.
    """

    OK = "ok"
    MUST_CHANGE = "must_change"
    MUST_ENROL = "must_enrol"
    WRONG = "wrong"
    LOCKED = "locked"
    CODE_NEEDED = "code_needed"
    DISABLED = "disabled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class LoginResult:
    """sort; user: when he may come in. locked_until: [ms UTC] when the next try counts, 0 at once."""

    sort: LoginSort
    user: UserFacts | None = None
    locked_until: int = 0

    @property
    def may_enter(self) -> bool:
        """True when a session may be opened."""
        return self.user is not None


@dataclass(frozen=True, slots=True)
class _Tries:
    """Wrong tries so far of an account or a bucket."""

    failed: int
    locked_until: int

    def after_wrong(self, at: int, limits: AccessSettings) -> _Tries:
        """One more wrong try at `at`."""
        forgotten = self.locked_until and at > self.locked_until + limits.lock_forget_h * 3_600_000
        failed = 1 if forgotten else self.failed + 1
        over = failed - limits.free_tries
        if over < 0:
            return _Tries(failed, 0)
        lock_s = min(limits.lock_first_s << min(over, 32), limits.lock_longest_s)
        return _Tries(failed, at + lock_s * 1000)


def login(
    database: Database,
    *,
    name: str,
    password: str,
    code: str = "",
    address: str = "",
    at: int,
    limits: AccessSettings,
    require_totp_for: frozenset[Role] | None = None,
) -> LoginResult:
    """Try to log in. Blocks for some tens of milliseconds: call it in a thread.

    require_totp_for: roles that must have a second factor; None takes the setting.
    """
    name = name.strip().lower()
    with database.read() as connection:
        seen = _row(connection, name)
        tries = _tries(connection, name, seen)
    if tries.locked_until > at:
        return LoginResult(LoginSort.LOCKED, locked_until=tries.locked_until)
    right = passwords.verify(seen.password_hash if seen else "", password, limits)
    renewed = _renewed(seen, password, limits) if right else ""
    with database.begin() as connection:
        audit.lock(connection)
        now = _row(connection, name, hold=True)
        tries = _tries(connection, name, now)
        if tries.locked_until > at:
            return LoginResult(LoginSort.LOCKED, locked_until=tries.locked_until)
        if now is None or seen is None or not right or now.password_hash != seen.password_hash:
            return _wrong(connection, name if now else "", tries, address, at, limits, _bucket(name))
        needs = limits.totp_roles if require_totp_for is None else require_totp_for
        return _right(connection, now, tries, code, address, at, limits, needs, renewed)


def _row(connection: Connection, name: str, *, hold: bool = False) -> Row[Any] | None:
    """hold: keep the row as it is until the transaction ends."""
    if not is_name(name):
        return None
    wanted = sa.select(User.__table__).where(User.name == name)
    return connection.execute(wanted.with_for_update() if hold else wanted).one_or_none()


def _tries(connection: Connection, name: str, row: Row[Any] | None) -> _Tries:
    if row is not None:
        return _Tries(row.failed, row.locked_until)
    counted = sa.select(UnknownLogin.failed, UnknownLogin.locked_until).where(UnknownLogin.bucket == _bucket(name))
    found = connection.execute(counted).one_or_none()
    return _Tries(found.failed, found.locked_until) if found else _Tries(0, 0)


def _bucket(name: str) -> int:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[0] % BUCKETS


def _renewed(row: Row[Any] | None, password: str, limits: AccessSettings) -> str:
    """A hash with the parameters of today for a password that was hashed with others; "" when there is no need."""
    if row is None or row.one_time or not passwords.outdated(row.password_hash, limits):
        return ""
    return passwords.hash_password(password, limits)


def _wrong(
    connection: Connection,
    name: str,
    tries: _Tries,
    address: str,
    at: int,
    limits: AccessSettings,
    bucket: int,
    sort: LoginSort = LoginSort.WRONG,
) -> LoginResult:
    """Count a wrong try; name: "" when there is no such user."""
    new = tries.after_wrong(at, limits)
    counted = {"failed": new.failed, "locked_until": new.locked_until}
    if name:
        connection.execute(sa.update(User).where(User.name == name).values(counted))
    else:
        upsert(connection, UnknownLogin, [{"bucket": bucket, **counted}], ("bucket",), replace=True)
    if new.failed == 1 or new.locked_until:
        actor = Actor(f"user:{name or _NOBODY}", address=address)
        until = {"locked_until": rfc3339(new.locked_until)} if new.locked_until else {}
        after = {"failed": new.failed, **until}
        audit.append(connection, actor, "user.login_failed", "user", name or _NOBODY, at=at, after=after, note=sort)
    return LoginResult(sort, locked_until=new.locked_until)


def _right(
    connection: Connection,
    row: Row[Any],
    tries: _Tries,
    code: str,
    address: str,
    at: int,
    limits: AccessSettings,
    needs: frozenset[Role],
    renewed: str,
) -> LoginResult:
    """The password is right; is everything else?"""
    refused: LoginSort | None = None
    step = row.totp_step
    if not row.enabled:
        refused = LoginSort.DISABLED
    elif row.one_time and (row.one_time_until or 0) <= at:
        refused = LoginSort.EXPIRED
    elif row.totp_secret:
        if not code:
            return LoginResult(LoginSort.CODE_NEEDED)
        found = totp.step_of(row.totp_secret, code, at)
        if found is None or found <= row.totp_step:  # a code serves once
            refused = LoginSort.WRONG
        else:
            step = found
    if refused is not None:
        return _wrong(connection, row.name, tries, address, at, limits, 0, refused)
    values = {"failed": 0, "locked_until": 0, "last_login_at": at, "totp_step": step}
    values |= {"password_hash": renewed} if renewed else {}
    connection.execute(sa.update(User).where(User.id == row.id).values(values))
    user = need(connection, row.name)
    after = {"failed_before": tries.failed} if tries.failed else None
    audit.append(connection, user.actor(address), "user.login", "user", user.name, at=at, after=after)
    return LoginResult(_entry(user, needs), user)


def _entry(user: UserFacts, needs: frozenset[Role]) -> LoginSort:
    if user.one_time:
        return LoginSort.MUST_CHANGE
    return LoginSort.MUST_ENROL if not user.totp and user.roles & needs else LoginSort.OK


def set_password(
    database: Database,
    actor: Actor,
    name: str,
    *,
    old: str,
    new: str,
    at: int,
    limits: AccessSettings,
    keep: str = "",
) -> UserFacts:
    """Change one's own password; all sessions but the one with id `keep` end. Slow: call it in a thread.

    A wrong old password counts like a wrong login. Raises: RefusedError (invalid, forbidden when the old one is wrong
    or the account is locked, conflict when somebody changed it meanwhile).
    """
    if actor.name != f"user:{name}":
        raise RefusedError("forbidden", "everybody changes his own password; an administrator resets it")
    with database.read() as connection:
        seen = _row(connection, name)
    if seen is None:
        raise RefusedError("unknown", f'there is no user "{name}"')
    if reason := passwords.problem(new, name=name, display_name=seen.display_name):
        raise RefusedError("invalid", reason)
    if passwords.normal(new) == passwords.normal(old):
        raise RefusedError("invalid", "the new password is the old one")
    if seen.locked_until > at:
        raise RefusedError("forbidden", f"the account is locked until {rfc3339(seen.locked_until)}")
    right = passwords.verify(seen.password_hash, old, limits)
    hashed = passwords.hash_password(new, limits) if right else ""
    with database.begin() as connection:
        audit.lock(connection)
        now = _row(connection, name, hold=True)
        if now is None or now.password_hash != seen.password_hash:
            raise RefusedError("conflict", "the password was changed meanwhile")
        locked = now.locked_until > at
        if not right and not locked:
            _wrong(connection, name, _Tries(now.failed, now.locked_until), actor.address, at, limits, 0)
        elif right and not locked:
            _replace(connection, actor, now, hashed, at, keep)
            return need(connection, name)
    raise RefusedError("forbidden", "the old password is wrong")  # after the commit: the try counts


def _replace(connection: Connection, actor: Actor, row: Row[Any], hashed: str, at: int, keep: str) -> None:
    values = {"password_hash": hashed, "one_time": False, "one_time_until": None, "failed": 0, "locked_until": 0}
    user = sa.update(User).where(User.id == row.id)
    connection.execute(user.values(changed_at=at, version=User.version + 1, **values))
    sessions.close_all(connection, row.id, keep=keep)
    audit.append(connection, actor, "user.set_password", "user", row.name, at=at)
