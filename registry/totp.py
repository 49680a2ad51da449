"""Second factors: TOTP codes (RFC 6238: SHA-1, 30 s, 6 digits, as every authenticator app does) that serve once.

The secret must be readable to check a code, so that it stands in the registry in the clear: whoever reads the
database has it. What it protects from is a password that leaked elsewhere.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import Final

import pyotp
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import audit, sessions
from registry.models_access import User
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from registry.users import need

STEP_MS: Final = 30_000
ISSUER: Final = "Metergate"
_DIGITS: Final = 6
_WINDOW: Final = (0, -1, 1)  # a phone's clock may be one step off (RFC 6238, 5.2)


def step_of(secret: str, code: str, at: int) -> int | None:
    """Return the 30 s step that a code belongs to, of the present one and its neighbours; None for none of them."""
    digits = code.replace(" ", "")
    if len(digits) != _DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    now, counter = at // STEP_MS, pyotp.HOTP(secret)
    for step in (now + offset for offset in _WINDOW):
        if hmac.compare_digest(counter.at(step), digits):
            return step
    return None


def enrol(connection: Connection, actor: Actor, name: str, *, at: int) -> tuple[str, str]:
    """Give a user a new secret, good once he has confirmed it, and return it with its otpauth:// address.

    Raises: RefusedError (unknown, forbidden: only oneself or an administrator).
    """
    _may(actor, name)
    audit.lock(connection)
    user_id = need(connection, name).id
    secret = base64.b32encode(secrets.token_bytes(20)).decode()
    connection.execute(sa.update(User).where(User.id == user_id).values(totp_pending=secret))
    audit.append(connection, actor, "user.totp_enrol", "user", name, at=at)
    return secret, _address(secret, name)


def confirm(connection: Connection, actor: Actor, name: str, code: str, *, at: int, keep: str = "") -> None:
    """Make the new secret the one that counts, shown by its first code; other sessions than `keep` end.

    Raises: RefusedError (unknown, forbidden, conflict when nothing waits, invalid when the code is wrong).
    """
    _may(actor, name)
    audit.lock(connection)
    user_id = need(connection, name).id
    pending = connection.execute(sa.select(User.totp_pending).where(User.id == user_id)).scalar_one()
    if not pending:
        raise RefusedError("conflict", "no secret waits for its first code; enrol first")
    step = step_of(pending, code, at)
    if step is None:
        raise RefusedError("invalid", "this code is not right; is the phone's clock?")
    values = {"totp_secret": pending, "totp_pending": "", "totp_step": step}
    _change(connection, user_id, at, keep, values)
    audit.append(connection, actor, "user.totp_confirm", "user", name, at=at)


def pending(connection: Connection, actor: Actor, name: str) -> tuple[str, str] | None:
    """Return the secret that waits for its first code with its address, None when none waits.

    Raises: RefusedError (unknown, forbidden).
    """
    _may(actor, name)
    user_id = need(connection, name).id
    secret = connection.execute(sa.select(User.totp_pending).where(User.id == user_id)).scalar_one()
    return (secret, _address(secret, name)) if secret else None


def _address(secret: str, name: str) -> str:
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER)


def give_up(connection: Connection, actor: Actor, name: str, code: str, *, at: int, keep: str = "") -> None:
    """Take one's own secret away, shown by a code of it, so that a page left open does not do it.

    Raises: RefusedError (unknown, forbidden, conflict when there is none, invalid when the code is wrong or served).
    """
    _may(actor, name)
    audit.lock(connection)
    user_id = need(connection, name).id
    held = connection.execute(sa.select(User.totp_secret, User.totp_step).where(User.id == user_id)).one()
    if not held.totp_secret:
        raise RefusedError("conflict", "no authenticator is in use")
    step = step_of(held.totp_secret, code, at)
    if step is None or step <= held.totp_step:
        raise RefusedError("invalid", "this code is not right, or it was used already; wait for the next one")
    remove(connection, actor, name, at=at, keep=keep)


def remove(connection: Connection, actor: Actor, name: str, *, at: int, keep: str = "") -> None:
    """Take a user's secret away (a lost phone). Raises: RefusedError (unknown, forbidden)."""
    _may(actor, name)
    audit.lock(connection)
    user_id = need(connection, name).id
    _change(connection, user_id, at, keep, {"totp_secret": "", "totp_pending": "", "totp_step": 0})
    audit.append(connection, actor, "user.totp_remove", "user", name, at=at)


def _change(connection: Connection, user_id: int, at: int, keep: str, values: dict[str, object]) -> None:
    row = sa.update(User).where(User.id == user_id)
    connection.execute(row.values(changed_at=at, version=User.version + 1, **values))
    sessions.close_all(connection, user_id, keep=keep)


def _may(actor: Actor, name: str) -> None:
    if actor.read_only or not (actor.has(Role.ADMIN) or actor.name == f"user:{name}"):
        raise RefusedError("forbidden", "only the user himself or an administrator may change his second factor")
