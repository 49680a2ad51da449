"""Roles and areas: nothing unless it was given, and nobody gives what he does not have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.roles import Actor, Role, areas_from, areas_to, console, may_grant, service

ROLES = st.frozensets(st.sampled_from(sorted(set(Role) - {Role.ADMIN})))
AREAS = st.none() | st.frozensets(st.sampled_from(["D1", "D2", "D3"]))
DISTRICTS = ("D1", "D2", "D3", "D4", "")


def test_an_actor_of_whom_nothing_is_known_may_nothing() -> None:
    nobody = Actor("user:nobody")
    assert not any(nobody.sees(district) for district in DISTRICTS)
    assert not nobody.has(*Role)
    assert not may_grant(nobody, [Role.VIEWER], frozenset())


def test_an_object_without_a_district_is_seen_by_who_sees_everything() -> None:
    assert service("ingest").sees("")
    assert not Actor("user:li", areas=frozenset({"D1"})).sees("")


def test_the_star_is_everywhere_even_beside_others() -> None:
    assert areas_from(["D1", "*"]) is None
    assert areas_from([]) == frozenset()
    assert areas_to(None) == ["*"]


@given(AREAS)
def test_areas_come_back_as_they_were_stored(areas: frozenset[str] | None) -> None:
    assert areas_from(areas_to(areas)) == areas


@given(ROLES, AREAS, ROLES, AREAS)
def test_what_somebody_grants_opens_nothing_that_he_does_not_see_himself(
    his: frozenset[Role], where: frozenset[str] | None, roles: frozenset[Role], areas: frozenset[str] | None
) -> None:
    giver, taker = Actor("user:a", his, areas=where), Actor("user:b", roles, areas=areas)
    allowed = may_grant(giver, roles, areas)
    opened = [district for district in DISTRICTS if taker.sees(district) and not giver.sees(district)]
    assert allowed == (not opened and roles <= his)


@given(ROLES, AREAS)
def test_an_administrator_grants_everything_unless_he_may_only_look(
    roles: frozenset[Role], areas: frozenset[str] | None
) -> None:
    assert may_grant(Actor("user:boss", frozenset({Role.ADMIN})), roles, areas)
    assert not may_grant(Actor("key:x", frozenset(Role), areas=None, read_only=True), roles, areas)
    assert may_grant(console("root"), roles, areas)
