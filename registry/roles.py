"""Who somebody is: roles open routes, ranks approve, areas limit what is seen. Deny by default."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

EVERYWHERE: Final = "*"


class Role(StrEnum):
    """What somebody does for the utility; a user has one or more."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    DISPATCHER = "dispatcher"
    WORKER = "worker"
    SUPERVISOR = "supervisor"
    BILLING = "billing"
    ENGINEER = "engineer"
    APPROVER = "approver"
    ADMIN = "admin"


class Rank(StrEnum):
    """Attributes of a user that an approval may ask for (`utility-practice`: corrections of volume)."""

    TEAM_LEAD = "team_lead"
    DEPARTMENT_HEAD = "department_head"
    FINANCE = "finance"
    DEPUTY_MANAGER = "deputy_manager"


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever does something. name: "user:li", "key:mg_ab12cd34", "service:ingest", "console:root".

    areas: districts that may be seen and changed, None for all. read_only: may look, never change.
    """

    name: str
    roles: frozenset[Role] = frozenset()
    ranks: frozenset[Rank] = frozenset()
    areas: frozenset[str] | None = frozenset()
    read_only: bool = False
    address: str = ""

    def has(self, *roles: Role) -> bool:
        """True when the actor has one of the roles."""
        return not self.roles.isdisjoint(roles)

    def sees(self, district: str) -> bool:
        """True when an object of that district may be seen; objects without a district need ["*"]."""
        return self.areas is None or district in self.areas


def may_grant(actor: Actor, roles: Iterable[Role], areas: frozenset[str] | None) -> bool:
    """True when the actor may give away these roles and areas: an administrator all, everybody else what he has."""
    if actor.read_only:
        return False
    if actor.has(Role.ADMIN):
        return True
    within = actor.areas is None or (areas is not None and areas <= actor.areas)
    return within and frozenset(roles) <= actor.roles


def areas_to(areas: frozenset[str] | None) -> list[str]:
    """Return areas as they are stored: a sorted list, ["*"] for all."""
    return [EVERYWHERE] if areas is None else sorted(areas)


def areas_from(words: Iterable[str]) -> frozenset[str] | None:
    """Return the districts of a stored list; None (all) when it holds "*"."""
    found = frozenset(words)
    return None if EVERYWHERE in found else found


def service(name: str) -> Actor:
    """Return the actor for a service that acts by itself."""
    return Actor(f"service:{name}", areas=None)


def console(user: str) -> Actor:
    """Return the actor for somebody at the command line of the host; whoever can write the database may do all."""
    return Actor(f"console:{user}", frozenset(Role), frozenset(Rank), None)
