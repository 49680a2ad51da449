"""The tables of access: who may come in, with what, and the chained record of everything that was changed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from registry.models import Base, Big

Words = sa.JSON()
"""A JSON list of words."""


class User(Base):
    """A person. areas: districts, or ["*"] for everywhere; an empty list is nowhere.

    password_hash: Argon2id, "" while none is set. one_time: the password must be changed before anything else.
    failed: wrong passwords in a row, with which `locked_until` [ms UTC] grows. totp_step: the last 30 s step whose
    code was used, so that no code serves twice. totp_pending: a secret that the user has not yet confirmed.
    """

    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    display_name: Mapped[str] = mapped_column(sa.String(200), default="")
    password_hash: Mapped[str] = mapped_column(sa.String(200), default="")
    one_time: Mapped[bool] = mapped_column(default=False)
    one_time_until: Mapped[int | None]
    roles: Mapped[list[Any]] = mapped_column(Words)
    ranks: Mapped[list[Any]] = mapped_column(Words)
    areas: Mapped[list[Any]] = mapped_column(Words)
    enabled: Mapped[bool] = mapped_column(default=True)
    totp_secret: Mapped[str] = mapped_column(sa.String(64), default="")
    totp_pending: Mapped[str] = mapped_column(sa.String(64), default="")
    totp_step: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[int] = mapped_column(default=0)
    last_login_at: Mapped[int | None]
    created_at: Mapped[int]
    changed_at: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)


class UnknownLogin(Base):
    """Wrong logins under names that do not exist, counted in a fixed number of buckets by the name's hash.

    Unknown names are locked like known ones, so that a lock does not tell who exists; and the table cannot grow.
    """

    __tablename__ = "unknown_login"
    bucket: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    failed: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[int] = mapped_column(default=0)


class Session(Base):
    """A login in a browser. id: SHA-256 of the cookie's token, csrf: the page's token. Times [ms UTC]."""

    __tablename__ = "user_session"
    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("user_account.id"), index=True)
    csrf: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[int]
    seen_at: Mapped[int]
    expires_at: Mapped[int] = mapped_column(index=True)
    address: Mapped[str] = mapped_column(sa.String(64), default="")


class ApiKey(Base):
    """A key of a program. id: the public prefix ("mg_ab12cd34"); hash: SHA-256 of the whole key (256 random bits).

    roles and areas as of a user; read_only keys may only GET. expires_at, revoked_at: [ms UTC].
    """

    __tablename__ = "api_key"
    id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    hash: Mapped[str] = mapped_column(sa.String(64))
    name: Mapped[str] = mapped_column(sa.String(200))
    roles: Mapped[list[Any]] = mapped_column(Words)
    areas: Mapped[list[Any]] = mapped_column(Words)
    read_only: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[str] = mapped_column(sa.String(80))
    created_at: Mapped[int]
    expires_at: Mapped[int]
    revoked_at: Mapped[int | None]
    used_at: Mapped[int | None]


class AuditRecord(Base):
    """One change: who, when, what, to which object, before and after. number: 1, 2, 3 … without a gap.

    hash: SHA-256 over the row's canonical JSON and `previous`, the hash of the row before (see `registry.audit`).
    """

    __tablename__ = "audit"
    number: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(sa.String(80), index=True)
    action: Mapped[str] = mapped_column(sa.String(64), index=True)
    object_kind: Mapped[str] = mapped_column(sa.String(32))
    object_id: Mapped[str] = mapped_column(sa.String(128), index=True)
    detail: Mapped[str] = mapped_column(sa.Text())
    address: Mapped[str] = mapped_column(sa.String(64), default="")
    previous: Mapped[str] = mapped_column(sa.String(64))
    hash: Mapped[str] = mapped_column(sa.String(64))


class AuditHead(Base):
    """The one row (id 1) that writers of the audit lock, so that the chain never forks."""

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    number: Mapped[int]
    hash: Mapped[str] = mapped_column(sa.String(64))


class GatewayCredential(Base):
    """A login of a gateway at the broker; two may be good at once while one replaces the other.

    id: the broker's user name. line: of Mosquitto's password file. retired_at: [ms UTC], None while good.
    """

    __tablename__ = "gateway_credential"
    id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    gateway_id: Mapped[str] = mapped_column(sa.String(48), index=True)
    line: Mapped[str] = mapped_column(sa.String(300))
    created_at: Mapped[int]
    retired_at: Mapped[int | None]


class CommandRecord(Base):
    """A signed command to a gateway, and what became of it. nonce: names it everywhere. Times [ms UTC].

    state: waiting (not yet at the broker), sent, done, failed (not for every meter), unknown (the gateway was started
    again while it did it), refused, expired. result: one sentence of the gateway.
    """

    __tablename__ = "command"
    nonce: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    gateway_id: Mapped[str] = mapped_column(sa.String(48), index=True)
    meter: Mapped[str] = mapped_column(sa.String(64), default="", index=True)
    name: Mapped[str] = mapped_column(sa.String(32))
    payload: Mapped[str] = mapped_column(sa.Text())
    issued_by: Mapped[str] = mapped_column(sa.String(80))
    issued_at: Mapped[int] = mapped_column(index=True)
    deadline: Mapped[int]
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    finished_at: Mapped[int | None]
    result: Mapped[str] = mapped_column(sa.String(500), default="")
