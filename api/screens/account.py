"""What a person's own account page shows: who he is to the house, his authenticator, his logins."""

from __future__ import annotations

from dataclasses import dataclass

import segno
from sqlalchemy.engine import Connection

from registry import sessions, totp, users
from registry.roles import Actor
from registry.sessions import OpenSession, SessionFacts
from registry.users import UserFacts


@dataclass(frozen=True, slots=True)
class Account:
    """One's own facts and the logins that are open now."""

    user: UserFacts
    logins: list[OpenSession]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new authenticator. secret: for typing. address: otpauth://…; picture: the same as an image in the page."""

    secret: str
    address: str
    picture: str


def account(connection: Connection, facts: SessionFacts, *, now_ms: int) -> Account:
    """Return what the page shows."""
    return Account(users.need(connection, facts.user_name), sessions.list_of(connection, facts.user_id, now_ms))


def enrolment(secret: str, address: str) -> Enrolment:
    """Return a secret with its picture, drawn here: no other host learns of it."""
    code = segno.make(address, error="m", micro=False)
    picture = code.svg_data_uri(scale=5, border=4, dark="#000", light="#fff", xmldecl=False, nl=False)
    in_fours = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
    return Enrolment(in_fours, address, picture)


def waiting_enrolment(connection: Connection, actor: Actor, name: str) -> Enrolment | None:
    """Return the authenticator that waits for its first code, None without one."""
    found = totp.pending(connection, actor, name)
    return None if found is None else enrolment(*found)
