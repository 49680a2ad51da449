"""Logins at the broker: one or two for each gateway and service, of which only the hash is kept.

A user's name is its owner's and a number: `gw-1.1`, after a rotation `gw-1.2`. Both are good until the old one is
retired, so that a gateway changes over whenever the new password reaches it, and no reading waits for that.
Numbers are never used again.

Owners are gateways (by id), services ("@ingest"), and senders of field meters ("@field:gw-1": whatever sends on the
topics of gw-1's MQTT meters). An id of a gateway cannot begin with "@".
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.errors import RegistryError
from metering.settings import nearest
from registry import audit
from registry.models import Gateway
from registry.models_access import GatewayCredential
from registry.roles import Actor

FIELD: Final = "@field:"
SERVICE_OWNERS: Final = ("@anomaly", "@api", "@ingest", "@watch")
OFFICE: Final = "office"
"""The gateway of manual and imported readings; it needs no row in the registry to get a login."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")  # as metering.reading.GatewayId
_LINE: Final = re.compile(r"([^:\s]{1,64}):(\$7\$[0-9]{1,9}\$[A-Za-z0-9+/=]{8,128}\$[A-Za-z0-9+/=]{40,128})")
_RESERVED: Final = frozenset(owner.removeprefix("@") for owner in SERVICE_OWNERS)
_ITERATIONS: Final = 101  # as mosquitto_passwd; the passwords are 192 random bits, so that more would buy nothing
_MOST: Final = 2  # good at once: the one in use, and the one that replaces it
_OWNER_MAX: Final = 48  # the column's width


@dataclass(frozen=True, slots=True)
class Login:
    """A user that the broker knows. line: of its password file. retired_at: [ms UTC], None while good."""

    user: str
    owner: str
    line: str
    created_at: int
    retired_at: int | None


@dataclass(frozen=True, slots=True)
class Issued:
    """A new login with its password, which exists nowhere else."""

    user: str
    password: str = field(repr=False)

    def text(self) -> str:
        """Return the credential file: the user's name, the password, one line each."""
        return f"{self.user}\n{self.password}\n"


def mosquitto_line(user: str, password: str) -> str:
    """Return a line of Mosquitto's password file: $7$ is PBKDF2 with SHA-512 (Mosquitto 2.0, mosquitto_passwd)."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"{user}:$7${_ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def owner_of(connection: Connection, name: str, *, field_meters: bool = False) -> str:
    """Return the owner that a person means: a service's name, or a gateway that the registry knows.

    field_meters: the senders of that gateway's MQTT meters instead of the gateway itself.
    Raises: RegistryError.
    """
    if f"@{name}" in SERVICE_OWNERS and not field_meters:
        return f"@{name}"
    known = list(connection.execute(sa.select(Gateway.id).order_by(Gateway.id)).scalars())
    if name not in known and (name != OFFICE or field_meters):
        raise RegistryError(f'no gateway "{name}" in the registry; {nearest(name, [*known, *sorted(_RESERVED)])}')
    if not _ID.fullmatch(name) or name in _RESERVED:
        raise RegistryError(f'"{name}" cannot be a user of the broker: letters, digits, ".", "_" and "-" can')
    owner = FIELD + name if field_meters else name
    if len(owner) > _OWNER_MAX:
        raise RegistryError(f'"{name}" is too long for a user of field meters: {_OWNER_MAX - len(FIELD)} can be')
    return owner


def add(connection: Connection, owner: str, actor: Actor, *, at: int) -> Issued:
    """Make an owner's first login. Raises: RegistryError when it has one already."""
    if good := _good(connection, owner):
        raise RegistryError(
            f"{_name(owner)} has a login already ({good[0].user}); metergate broker rotate replaces it"
        )
    return _issue(connection, owner, actor, "credential.add", at)


def rotate(connection: Connection, owner: str, actor: Actor, *, at: int) -> Issued:
    """Make another login beside the one in use. Raises: RegistryError when there is none, or there are two."""
    good = _good(connection, owner)
    if not good:
        raise RegistryError(f"{_name(owner)} has no login that could be replaced; metergate broker add makes one")
    if len(good) >= _MOST:
        names = " and ".join(login.user for login in good)
        raise RegistryError(f"{names} are both good; retire the one that is no longer used first")
    return _issue(connection, owner, actor, "credential.rotate", at)


def retire(connection: Connection, user: str, actor: Actor, *, at: int) -> list[Login]:
    """End a login; return its owner's other good ones. Raises: RegistryError when it is none or ended already."""
    found = {login.user: login for login in everyone(connection)}
    if user not in found:
        raise RegistryError(f'no user "{user}" of the broker; {nearest(user, list(found))}')
    if found[user].retired_at is not None:
        raise RegistryError(f"{user} is retired already")
    table = GatewayCredential
    connection.execute(sa.update(table).where(table.id == user).values(retired_at=at))
    owner = found[user].owner
    audit.append(connection, actor, "credential.retire", "credential", user, at=at, before={"owner": owner})
    return _good(connection, owner)


def adopt(connection: Connection, lines: Sequence[str], actor: Actor, *, at: int) -> list[str]:
    """Take over a password file that `deploy/init.py` wrote: users are named as their owners. Return the new ones.

    Raises: RegistryError for a line that is none, and for a user that is neither a service nor a gateway.
    """
    taken = {login.user for login in everyone(connection)}
    made = []
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise RegistryError(f"line {number} is not USER:$7$… of Mosquitto's password file")
        user = match[1]
        if user not in taken:
            owner = owner_of(connection, user)
            _insert(connection, Login(user, owner, match[0], at, None))
            audit.append(connection, actor, "credential.adopt", "credential", user, at=at, after={"owner": owner})
            made.append(user)
    return made


def everyone(connection: Connection) -> list[Login]:
    """Return all logins, retired ones too, in the order of their owners and ages."""
    table = GatewayCredential
    rows = connection.execute(
        sa.select(table.id, table.gateway_id, table.line, table.created_at, table.retired_at).order_by(
            table.gateway_id, table.created_at, table.id
        )
    )
    return [Login(*row) for row in rows]


def good(connection: Connection) -> list[Login]:
    """Return the logins that the broker shall know."""
    return [login for login in everyone(connection) if login.retired_at is None]


def _good(connection: Connection, owner: str) -> list[Login]:
    return [login for login in good(connection) if login.owner == owner]


def _issue(connection: Connection, owner: str, actor: Actor, action: str, at: int) -> Issued:
    taken = {login.user for login in everyone(connection)}
    stem, number = _name(owner), 1
    while f"{stem}.{number}" in taken:
        number += 1
    issued = Issued(f"{stem}.{number}", secrets.token_urlsafe(24))
    _insert(connection, Login(issued.user, owner, mosquitto_line(issued.user, issued.password), at, None))
    audit.append(connection, actor, action, "credential", issued.user, at=at, after={"owner": owner})
    return issued


def _insert(connection: Connection, login: Login) -> None:
    connection.execute(
        sa.insert(GatewayCredential).values(
            id=login.user, gateway_id=login.owner, line=login.line, created_at=login.created_at, retired_at=None
        )
    )


def _name(owner: str) -> str:
    """ "@field:gw-1" -> "field-gw-1", "@ingest" -> "ingest", "gw-1" -> "gw-1"."""
    return owner.removeprefix("@").replace(":", "-", 1)
