"""Settings of access and audit: how hard a password is to try, how long a login lasts, where the anchors go."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from metering.settings import SettingsModel
from registry.roles import Role


class AccessSettings(SettingsModel):
    """Who may come in: limits of logins, sessions and keys."""

    argon2_time: int = Field(3, ge=1, le=20, description="Passes of Argon2id over its memory for one password.")
    argon2_memory_kib: int = Field(
        32 * 1024, ge=1024, le=1024 * 1024, description="Memory that Argon2id takes for one password [KiB]."
    )
    argon2_lanes: int = Field(1, ge=1, le=16, description="Lanes of Argon2id; more than one uses several cores.")
    free_tries: int = Field(
        5, ge=1, le=100, description="Wrong passwords or codes in a row after which an account is locked for a while."
    )
    lock_first_s: int = Field(
        30, ge=1, le=86400, description="First lock of an account [s]; every further wrong try doubles it."
    )
    lock_longest_s: int = Field(3600, ge=1, le=7 * 86400, description="Longest lock of an account [s].")
    lock_forget_h: int = Field(
        24, ge=1, le=8760, description="Quiet time after a lock [h] after which wrong tries are counted from 0 again."
    )
    one_time_h: int = Field(
        72, ge=1, le=720, description="Time for which a one-time password is good [h]; it must be changed at once."
    )
    require_totp_for: tuple[Role, ...] = Field(
        (), description='Roles whose users must give a TOTP code at login, such as ["admin", "approver"].'
    )
    session_idle_min: int = Field(
        30, ge=2, le=1440, description="Time without a request after which a login in a browser ends [min]."
    )
    session_longest_h: int = Field(
        12, ge=1, le=720, description="Time after which a login in a browser ends whatever happens [h]."
    )
    sessions_per_user: int = Field(
        10, ge=1, le=1000, description="Logins that one user may have at once; one more ends the oldest."
    )
    key_longest_d: int = Field(
        400, ge=1, le=3660, description="Longest time for which a key of a program is good [d]."
    )

    @model_validator(mode="after")
    def _locks_grow(self) -> Self:
        if self.lock_longest_s < self.lock_first_s:
            raise ValueError("lock_longest_s must not be shorter than lock_first_s")
        return self

    @property
    def totp_roles(self) -> frozenset[Role]:
        """`require_totp_for` as a set."""
        return frozenset(self.require_totp_for)


class AuditSettings(SettingsModel):
    """Where the audit's head is anchored outside the database."""

    anchors: Path = Field(
        Path("var/audit-anchors.jsonl"),
        description="File that the API appends the audit's newest number and hash to; keep a copy on another host.",
    )
    anchor_interval_s: float = Field(
        60.0, gt=0, le=86400, description="Time between two anchors [s]; nothing is written when nothing changed."
    )
