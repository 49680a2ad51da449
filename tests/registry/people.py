"""People for the tests of access: an administrator, and users with passwords of their own. Argon2 at its cheapest."""

from __future__ import annotations

from typing import Final

from registry import logins, users
from registry.database import Database
from registry.roles import Actor, Rank, Role, console
from registry.settings import AccessSettings
from registry.users import UserFacts

LIMITS: Final = AccessSettings(argon2_time=1, argon2_memory_kib=1024)
ROOT: Final = console("root")
T0: Final = 1_772_323_200_000
"""2026-03-01T00:00:00Z [ms UTC]."""
MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
PASSWORD: Final = "a blue horse on a hill"


def newcomer(
    database: Database,
    name: str = "li",
    *roles: Role,
    ranks: tuple[Rank, ...] = (),
    areas: frozenset[str] | None = frozenset({"D1"}),
    actor: Actor = ROOT,
) -> tuple[UserFacts, str]:
    """A user who has not logged in yet, with his one-time password."""
    with database.begin() as connection:
        return users.create(
            connection,
            actor,
            name=name,
            display_name=name.title(),
            roles=roles or (Role.VIEWER,),
            ranks=ranks,
            areas=areas,
            at=T0,
            limits=LIMITS,
        )


def person(
    database: Database, name: str = "li", *roles: Role, areas: frozenset[str] | None = frozenset({"D1"})
) -> UserFacts:
    """A user whose password is `PASSWORD`."""
    user, one_time = newcomer(database, name, *roles, areas=areas)
    return logins.set_password(database, user.actor(), name, old=one_time, new=PASSWORD, at=T0, limits=LIMITS)
