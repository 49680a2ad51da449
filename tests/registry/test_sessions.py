"""Sessions: found by a token that only the browser has, over when they must be."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import logins, sessions, users
from registry.database import Database
from registry.models_access import Session
from registry.refusals import RefusedError
from registry.roles import Rank, Role
from registry.sessions import SessionFacts
from registry.settings import AccessSettings
from registry.users import UserFacts
from tests.registry.people import HOUR, LIMITS, MINUTE, PASSWORD, ROOT, T0, newcomer, person


def opened(database: Database, user: UserFacts, at: int = T0) -> tuple[str, str]:
    with database.begin() as connection:
        return sessions.open_session(connection, user.id, "10.0.0.7", at, LIMITS, version=user.version)


def found(database: Database, token: str, at: int) -> SessionFacts | None:
    with database.read() as connection:
        return sessions.find(connection, token, at, address="10.0.0.7")


def count(connection: Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(Session)).scalar_one()


def test_a_session_knows_whose_it_is(database: Database) -> None:
    user, _ = newcomer(database, "li", Role.DISPATCHER, ranks=(Rank.TEAM_LEAD,))
    token, _ = opened(database, user)
    facts = found(database, token, T0 + 1)
    assert facts is not None
    assert (facts.actor.name, facts.actor.roles, facts.actor.ranks) == ("user:li", user.roles, user.ranks)
    assert (facts.actor.areas, facts.actor.address, facts.actor.read_only) == (frozenset({"D1"}), "10.0.0.7", False)
    assert (facts.user_id, facts.user_name, facts.version) == (user.id, "li", user.version)
    assert (facts.must_change, facts.totp) == (True, False)
    assert facts.must_enrol({Role.DISPATCHER})
    assert not facts.must_enrol({Role.ADMIN})


def test_the_table_does_not_hold_the_token(database: Database) -> None:
    token, csrf = opened(database, person(database))
    assert len(token) == len(csrf) == 43  # 256 bits in letters
    with database.read() as connection:
        stored = str(connection.execute(sa.select(Session.__table__)).all())
    assert token not in stored
    assert csrf in stored  # worth nothing without the token, which is not there


def test_the_page_token_belongs_to_its_session_alone(database: Database) -> None:
    user = person(database)
    token, csrf = opened(database, user)
    _, others = opened(database, user)
    facts = found(database, token, T0)
    assert facts is not None
    assert facts.csrf_fits(csrf)
    assert not any(map(facts.csrf_fits, (others, token, "", csrf[:-1], "\ud800", sessions.digest(token))))
    assert facts.page_token == csrf  # every page of the login can show it, and two tabs the same
    assert csrf not in (token, sessions.digest(token), facts.id)


@pytest.mark.parametrize("token", ["", "x", "x" * 100_000, "\0", "\ud800", "' OR 1=1 --"])
def test_what_is_no_token_finds_nothing(database: Database, token: str) -> None:
    real, _ = opened(database, person(database))
    assert found(database, token, T0) is None
    assert found(database, sessions.digest(real), T0) is None  # what a thief of the table would send


def test_half_an_hour_of_silence_ends_it_and_requests_move_that(database: Database) -> None:
    token, _ = opened(database, person(database))
    assert found(database, token, T0 + 30 * MINUTE - 1) is not None
    assert found(database, token, T0 + 30 * MINUTE) is None
    facts = found(database, token, T0 + 20 * MINUTE)
    assert facts is not None
    assert facts.touch_due(T0 + 20 * MINUTE)
    with database.begin() as connection:
        sessions.touch(connection, facts, T0 + 20 * MINUTE, LIMITS)
    later = found(database, token, T0 + 50 * MINUTE - 1)
    assert later is not None
    assert not later.touch_due(T0 + 21 * MINUTE - 1)  # no write for every request
    assert later.touch_due(T0 + 21 * MINUTE)
    assert found(database, token, T0 + 50 * MINUTE) is None


def test_after_twelve_hours_it_ends_whatever_happens(database: Database) -> None:
    token, _ = opened(database, person(database))
    for at in range(T0, T0 + 12 * HOUR, 25 * MINUTE):
        facts = found(database, token, at)
        assert facts is not None
        with database.begin() as connection:
            sessions.touch(connection, facts, at, LIMITS)
    assert found(database, token, T0 + 12 * HOUR - 1) is not None
    assert found(database, token, T0 + 12 * HOUR) is None


def test_an_open_page_moves_the_end_as_a_request_does(database: Database) -> None:
    token, _ = opened(database, person(database))
    facts = found(database, token, T0)
    assert facts is not None
    idle, longest = LIMITS.session_idle_min * MINUTE, LIMITS.session_longest_h * HOUR
    for at, end in ((T0 + MINUTE // 2, T0 + idle), (T0 + 20 * MINUTE, T0 + 20 * MINUTE + idle)):
        sessions.touch_watched(database, [facts.id, "unknown"], at, LIMITS)
        seen = found(database, token, at)
        assert seen is not None
        assert seen.expires_at == end
    sessions.touch_watched(database, [facts.id], T0 + 20 * MINUTE + idle, LIMITS)
    assert found(database, token, T0 + 20 * MINUTE + idle) is None, "what is over stays over"
    with database.begin() as connection:
        connection.execute(sa.update(Session).values(expires_at=T0 + longest))
    sessions.touch_watched(database, [facts.id], T0 + longest - MINUTE, LIMITS)
    last = found(database, token, T0 + longest - 1)
    assert last is not None
    assert last.expires_at == T0 + longest


def test_a_disabled_user_is_out_at_once(database: Database) -> None:
    token, _ = opened(database, person(database))
    with database.begin() as connection:
        users.edit(connection, ROOT, "li", version=None, enabled=False, at=T0)
    assert found(database, token, T0) is None


def test_a_session_of_a_one_time_password_ends_with_it(database: Database) -> None:
    user, _ = newcomer(database)
    token, _ = opened(database, user, T0 + 72 * HOUR - 1)
    assert found(database, token, T0 + 72 * HOUR - 1) is not None
    assert found(database, token, T0 + 72 * HOUR) is None


def test_no_session_opens_for_what_was_right_a_moment_ago(database: Database) -> None:
    """Between the login and the session somebody resets the password, or disables the user."""
    person(database)
    user = logins.login(database, name="li", password=PASSWORD, at=T0, limits=LIMITS).user
    assert user is not None
    with database.begin() as connection:
        users.reset_password(connection, ROOT, "li", at=T0)
    with pytest.raises(RefusedError, match="meanwhile"):
        opened(database, user)
    with database.begin() as connection, pytest.raises(RefusedError, match="no such user"):
        sessions.open_session(connection, 99, "", T0, LIMITS)


def test_one_more_login_than_allowed_ends_the_one_that_was_silent_longest(database: Database) -> None:
    user = person(database)
    three = AccessSettings(sessions_per_user=3)
    with database.begin() as connection:
        tokens = [sessions.open_session(connection, user.id, "", T0 + number, three)[0] for number in range(5)]
        alive = [sessions.find(connection, token, T0 + 5) is not None for token in tokens]
    assert alive == [False, False, True, True, True]


def test_closing_and_sweeping(database: Database) -> None:
    li, hua = person(database, "li"), person(database, "hua")
    first, _ = opened(database, li)
    second, _ = opened(database, li, T0 + MINUTE)
    others, _ = opened(database, hua)
    with database.begin() as connection:
        sessions.close(connection, sessions.digest(first))
        sessions.close(connection, sessions.digest(first))
        assert sessions.find(connection, first, T0) is None
        assert sessions.close_all(connection, li.id) == 1
        assert sessions.find(connection, second, T0) is None
        assert sessions.find(connection, others, T0) is not None
        assert sessions.sweep(connection, T0 + 30 * MINUTE - 1) == 0
        assert sessions.sweep(connection, T0 + 30 * MINUTE) == 1
        assert count(connection) == 0
