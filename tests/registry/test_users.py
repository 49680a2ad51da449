"""Users: who may change them, what is refused, what ends a login, and that one administrator always stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from registry import audit, logins, sessions, users
from registry.database import Database
from registry.logins import LoginSort
from registry.models_access import User
from registry.refusals import RefusedError
from registry.roles import Actor, Rank, Role
from tests.registry.people import DAY, HOUR, LIMITS, PASSWORD, ROOT, T0, newcomer, person


def trail(database: Database) -> list[tuple[str, str, str]]:
    """Who did what to whom, oldest first."""
    with database.read() as connection:
        rows = audit.records(connection, after=0)
    return [(row["actor"], row["action"], row["object_id"]) for row in rows]


def test_a_new_user_has_what_he_was_given_and_a_password_for_once(database: Database) -> None:
    user, one_time = newcomer(database, "li", Role.DISPATCHER, Role.OPERATOR, ranks=(Rank.FINANCE,))
    assert (user.roles, user.ranks) == (frozenset({Role.DISPATCHER, Role.OPERATOR}), frozenset({Rank.FINANCE}))
    assert (user.areas, user.enabled, user.one_time, user.version) == (frozenset({"D1"}), True, True, 1)
    assert user.one_time_until == T0 + 72 * HOUR
    with database.read() as connection:
        assert users.get(connection, "li") == user
        assert users.get(connection, "LI") is None
        stored = connection.execute(sa.select(User.password_hash)).scalar_one()
        (row,) = audit.records(connection)
    assert one_time not in stored
    assert (row["actor"], row["action"], row["object_id"]) == ("console:root", "user.create", "li")
    assert row["detail"]["after"]["roles"] == ["dispatcher", "operator"]
    assert "password" not in str(row["detail"])


@pytest.mark.parametrize("name", ["", "Li", "li hua", "-li", "li/../x", "li\n", "李雷", "l" * 65, "li'; --"])
def test_a_name_that_is_none_is_refused(database: Database, name: str) -> None:
    with pytest.raises(RefusedError, match="a user's name") as refused:
        newcomer(database, name)
    assert refused.value.sort == "invalid"


def test_a_name_is_given_once(database: Database) -> None:
    newcomer(database, "li")
    with pytest.raises(RefusedError, match="already") as refused:
        newcomer(database, "li")
    assert refused.value.sort == "conflict"


@pytest.mark.parametrize(
    "actor",
    [
        Actor("user:wang"),
        Actor("user:wang", frozenset(Role) - {Role.ADMIN}, frozenset(Rank), None),
        Actor("key:mg_abcdefgh", frozenset(Role), frozenset(), None, read_only=True),
    ],
)
def test_only_administrators_change_users(database: Database, actor: Actor) -> None:
    person(database, "li")
    with database.begin() as connection:
        for change in (
            lambda: newcomer(database, "hua", actor=actor),
            lambda: users.edit(connection, actor, "li", version=None, roles=[Role.ADMIN], at=T0),
            lambda: users.reset_password(connection, actor, "li", at=T0),
            lambda: users.unlock(connection, actor, "li", at=T0),
        ):
            if database.is_sqlite and change.__code__.co_names[0] == "newcomer":
                continue  # would wait for this very transaction
            with pytest.raises(RefusedError) as refused:
                change()
            assert refused.value.sort == "forbidden"


def test_an_edit_changes_what_is_given_and_ends_the_logins(database: Database) -> None:
    user = person(database, "li")
    with database.begin() as connection:
        token, _ = sessions.open_session(connection, user.id, "", T0, LIMITS)
        shown = users.edit(connection, ROOT, "li", version=user.version, display_name="李雷", at=T0 + 1)
        assert sessions.find(connection, token, T0 + 1) is not None  # a name ends nothing
        new = users.edit(connection, ROOT, "li", version=shown.version, roles=[Role.WORKER], areas=["*"], at=T0 + 2)
        assert sessions.find(connection, token, T0 + 2) is None
    assert (new.display_name, new.roles, new.areas) == ("李雷", frozenset({Role.WORKER}), None)
    assert (new.version, new.changed_at) == (user.version + 2, T0 + 2)
    with database.read() as connection:
        row = audit.records(connection)[0]
    assert row["detail"] == {
        "before": {"areas": ["D1"], "roles": ["viewer"]},
        "after": {"areas": ["*"], "roles": ["worker"]},
    }


def test_an_edit_that_changes_nothing_is_no_row(database: Database) -> None:
    user = person(database, "li")
    before = trail(database)
    with database.begin() as connection:
        assert users.edit(connection, ROOT, "li", version=user.version, roles=[Role.VIEWER], at=T0 + 1) == user
    assert trail(database) == before


def test_the_slower_of_two_people_is_told(database: Database) -> None:
    user = person(database, "li")
    with database.begin() as connection:
        users.edit(connection, ROOT, "li", version=user.version, roles=[Role.WORKER], at=T0 + 1)
        with pytest.raises(RefusedError, match="meanwhile") as refused:
            users.edit(connection, ROOT, "li", version=user.version, roles=[Role.BILLING], at=T0 + 2)
    assert refused.value.sort == "conflict"


@pytest.mark.parametrize(
    "change",
    [{"roles": []}, {"areas": [" "]}, {"areas": ["x" * 65]}, {"display_name": "a\nb"}, {"display_name": "x" * 201}],
)
def test_an_edit_to_something_impossible_is_refused(database: Database, change: dict[str, Any]) -> None:
    person(database, "li")
    with database.begin() as connection, pytest.raises(RefusedError) as refused:
        users.edit(connection, ROOT, "li", version=None, at=T0, **change)
    assert refused.value.sort == "invalid"


def test_the_last_administrator_stays(database: Database) -> None:
    person(database, "boss", Role.ADMIN, Role.VIEWER)
    person(database, "li")
    losses: list[dict[str, Any]] = [{"enabled": False}, {"roles": [Role.VIEWER]}]
    for change in losses:
        with database.begin() as connection, pytest.raises(RefusedError, match="last administrator"):
            users.edit(connection, ROOT, "boss", version=None, at=T0, **change)
    person(database, "boss2", Role.ADMIN)
    with database.begin() as connection:
        assert not users.edit(connection, ROOT, "boss", version=None, enabled=False, at=T0).enabled
        with pytest.raises(RefusedError, match="last administrator"):
            users.edit(connection, ROOT, "boss2", version=None, roles=[Role.VIEWER], at=T0)


def test_two_administrators_who_disable_each_other_at_once_leave_one(database: Database) -> None:
    person(database, "a", Role.ADMIN)
    person(database, "b", Role.ADMIN)
    together = Barrier(2)

    def disable(name: str) -> bool:
        together.wait(30)
        try:
            with database.begin() as connection:
                users.edit(connection, ROOT, name, version=None, enabled=False, at=T0)
        except RefusedError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(disable, ("a", "b"))) == [False, True]


def test_a_reset_unlocks_and_gives_a_new_password_for_once(database: Database) -> None:
    user = person(database, "li")
    for second in range(5):
        logins.login(database, name="li", password="wrong", at=T0 + second, limits=LIMITS)
    with database.begin() as connection:
        token, _ = sessions.open_session(connection, user.id, "", T0, LIMITS)
        one_time = users.reset_password(connection, ROOT, "li", at=T0 + 10, limits=LIMITS)
        assert sessions.find(connection, token, T0 + 10) is None
    old = logins.login(database, name="li", password=PASSWORD, at=T0 + 11, limits=LIMITS)
    new = logins.login(database, name="li", password=one_time, at=T0 + 12, limits=LIMITS)
    assert (old.sort, new.sort) == (LoginSort.WRONG, LoginSort.MUST_CHANGE)
    assert ("console:root", "user.reset_password", "li") in trail(database)


def test_unlock_forgets_wrong_logins(database: Database) -> None:
    person(database, "li")
    for second in range(5):
        logins.login(database, name="li", password="wrong", at=T0 + second, limits=LIMITS)
    assert logins.login(database, name="li", password=PASSWORD, at=T0 + 9, limits=LIMITS).sort == LoginSort.LOCKED
    with database.begin() as connection:
        assert users.unlock(connection, ROOT, "li", at=T0 + 10).locked_until == 0
    assert logins.login(database, name="li", password=PASSWORD, at=T0 + 11, limits=LIMITS).sort == LoginSort.OK


def test_the_first_administrator_is_made_once_by_two_programs_that_start_at_once(database: Database) -> None:
    together = Barrier(4)

    def start(_number: int) -> tuple[str, str] | None:
        together.wait(30)
        return users.first_admin(database, T0, LIMITS)

    with ThreadPoolExecutor(4) as pool:
        made = [found for found in pool.map(start, range(4)) if found]
    ((name, one_time),) = made
    assert name == "admin"
    assert users.first_admin(database, T0 + DAY, LIMITS) is None
    with database.read() as connection:
        assert [user.name for user in users.list_users(connection)] == ["admin"]
        assert not users.ready(connection)  # the printed password is not his own
    user = logins.login(database, name=name, password=one_time, at=T0 + 1, limits=LIMITS).user
    assert user is not None
    assert (user.roles, user.areas) == (frozenset({Role.ADMIN}), None)
    logins.set_password(database, user.actor(), name, old=one_time, new=PASSWORD, at=T0 + 2, limits=LIMITS)
    with database.read() as connection:
        assert users.ready(connection)


def test_the_first_administrator_is_made_beside_users_without_one(database: Database) -> None:
    person(database, "admin", Role.VIEWER)  # somebody took the name
    made = users.first_admin(database, T0, LIMITS)
    assert made is not None
    assert made[0].startswith("admin-")
    assert users.first_admin(database, T0, LIMITS) is None


def test_an_unknown_user_is_said(database: Database) -> None:
    with database.begin() as connection, pytest.raises(RefusedError, match='no user "nobody"') as refused:
        users.edit(connection, ROOT, "nobody", version=None, enabled=False, at=T0)
    assert refused.value.sort == "unknown"
