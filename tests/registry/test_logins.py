"""Logins: every sort of answer, the lock that grows, and that many tries at once gain nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyotp
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from registry import audit, logins, passwords, sessions, totp, users
from registry.database import Database
from registry.logins import LoginResult, LoginSort, _Tries
from registry.models_access import UnknownLogin, User
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from registry.settings import AccessSettings
from tests.registry.people import DAY, HOUR, LIMITS, PASSWORD, ROOT, T0, newcomer, person

SECOND = 1000


def enter(
    database: Database,
    name: str = "li",
    password: str = PASSWORD,
    at: int = T0,
    code: str = "",
    **more: frozenset[Role],
) -> LoginResult:
    return logins.login(
        database, name=name, password=password, code=code, address="10.0.0.7", at=at, limits=LIMITS, **more
    )


def with_totp(database: Database, name: str = "li", *roles: Role) -> str:
    """A user who gives codes; returns the secret, whose code of T0 was used for the enrolment."""
    user = person(database, name, *roles)
    with database.begin() as connection:
        secret, _ = totp.enrol(connection, user.actor(), name, at=T0)
        totp.confirm(connection, user.actor(), name, code_at(secret, T0), at=T0)
    return secret


def code_at(secret: str, at: int) -> str:
    return pyotp.TOTP(secret).at(at // 1000)


def failures(database: Database) -> list[dict[str, object]]:
    with database.read() as connection:
        rows = audit.records(connection, action="user.login_failed", after=0)
    return [{"name": row["object_id"], **row["detail"]["after"]} for row in rows]


def test_the_right_password_lets_in_and_is_in_the_audit(database: Database) -> None:
    person(database)
    result = enter(database, " LI ", at=T0 + 5)
    assert (result.sort, result.may_enter) == (LoginSort.OK, True)
    assert result.user is not None
    assert (result.user.name, result.user.last_login_at) == ("li", T0 + 5)
    with database.read() as connection:
        row = audit.records(connection)[0]
    assert (row["actor"], row["action"], row["address"]) == ("user:li", "user.login", "10.0.0.7")


def test_a_wrong_password_and_an_unknown_name_answer_alike(database: Database) -> None:
    person(database)
    assert enter(database, password="wrong") == enter(database, "nobody") == LoginResult(LoginSort.WRONG)


@pytest.mark.parametrize("name", ["", "li\0", "x" * 100_000, "' OR 1=1 --", "李雷", "\ud800"])
def test_strange_names_are_unknown_names(database: Database, name: str) -> None:
    person(database)
    assert enter(database, name).sort == LoginSort.WRONG


def test_a_one_time_password_opens_the_door_to_the_change_and_expires(database: Database) -> None:
    user, one_time = newcomer(database)
    assert enter(database, password=one_time, at=T0 + 72 * HOUR - 1).sort == LoginSort.MUST_CHANGE
    late = enter(database, password=one_time, at=T0 + 72 * HOUR)
    assert (late.sort, late.user) == (LoginSort.EXPIRED, None)
    logins.set_password(database, user.actor(), "li", old=one_time, new=PASSWORD, at=T0 + 1, limits=LIMITS)
    assert enter(database, at=T0 + 90 * DAY).sort == LoginSort.OK


def test_a_disabled_user_is_told_only_when_his_password_is_right(database: Database) -> None:
    person(database)
    with database.begin() as connection:
        person_off = users.edit(connection, ROOT, "li", version=None, enabled=False, at=T0)
    assert not person_off.enabled
    assert enter(database, password="wrong").sort == LoginSort.WRONG
    result = enter(database)
    assert (result.sort, result.user) == (LoginSort.DISABLED, None)


@pytest.mark.parametrize("name", ["li", "nobody"])
def test_the_lock_grows_from_30_seconds_to_an_hour_for_known_and_unknown_names(database: Database, name: str) -> None:
    person(database)
    now, waits = T0, []
    for _ in range(4):
        assert enter(database, name, "wrong", now) == LoginResult(LoginSort.WRONG)
    for _ in range(9):
        result = enter(database, name, "wrong", now)
        assert result.sort == LoginSort.WRONG
        waits.append((result.locked_until - now) // SECOND)
        assert enter(database, name, PASSWORD, result.locked_until - 1).sort == LoginSort.LOCKED  # right or wrong
        now = result.locked_until
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert enter(database, "li", PASSWORD, now).sort == LoginSort.OK


def test_the_audit_has_the_first_wrong_try_and_one_row_for_each_lock(database: Database) -> None:
    person(database)
    for _ in range(500):
        enter(database, password="wrong")
    shown = failures(database)
    assert [row["failed"] for row in shown] == [1, 5]
    assert shown[1]["locked_until"] == "2026-03-01T00:00:30.000Z"


def test_what_was_typed_for_an_unknown_name_is_nowhere_in_the_audit(database: Database) -> None:
    enter(database, "my-password-by-mistake")
    assert [row["name"] for row in failures(database)] == ["(unknown)"]


def test_unknown_names_fill_no_table(database: Database) -> None:
    for number in range(40):
        enter(database, f"ghost-{number}")
    with database.begin() as connection:
        assert connection.execute(sa.select(sa.func.max(UnknownLogin.bucket))).scalar_one() < logins.BUCKETS
        assert users.list_users(connection) == []


def test_a_good_login_starts_the_count_anew(database: Database) -> None:
    person(database)
    for round_ in range(3):
        for _ in range(4):
            assert enter(database, password="wrong", at=T0 + round_).locked_until == 0
        assert enter(database, at=T0 + round_).sort == LoginSort.OK


def test_a_quiet_day_after_a_lock_forgets_it(database: Database) -> None:
    person(database)
    for _ in range(5):
        result = enter(database, password="wrong")
    assert enter(database, password="wrong", at=result.locked_until + DAY).locked_until > 0
    again = enter(database, password="wrong", at=result.locked_until + 3 * DAY)
    assert (again.sort, again.locked_until) == (LoginSort.WRONG, 0)


@given(st.lists(st.integers(0, 10 * DAY), max_size=60), st.integers(1, 10), st.integers(1, 100), st.integers(1, 7200))
def test_a_lock_is_never_longer_than_the_longest_and_never_comes_early(
    gaps: list[int], free: int, first: int, more: int
) -> None:
    longest = first + more
    limits = AccessSettings(free_tries=free, lock_first_s=first, lock_longest_s=longest)
    tries, now = _Tries(0, 0), T0
    for gap in gaps:
        now += gap
        tries = tries.after_wrong(now, limits)
        assert (tries.locked_until > 0) == (tries.failed >= free)
        assert tries.locked_until <= now + longest * SECOND
        assert tries.locked_until == 0 or tries.locked_until >= now + first * SECOND


def test_twenty_guesses_at_once_count_as_they_would_one_by_one(database: Database) -> None:
    person(database)
    together = Barrier(10)

    def guess(number: int) -> LoginSort:
        together.wait(60)
        return enter(database, password=f"guess {number}").sort

    with ThreadPoolExecutor(10) as pool:
        sorts = list(pool.map(guess, range(20)))
    assert (sorts.count(LoginSort.WRONG), sorts.count(LoginSort.LOCKED)) == (5, 15)
    assert enter(database, at=T0 + 29 * SECOND).sort == LoginSort.LOCKED


def test_the_right_password_among_too_many_guesses_at_once_is_locked_out_with_them(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is locked while the right password is being checked; it must not slip through."""
    person(database)
    real = passwords.verify

    def slow(stored: str, password: str, limits: AccessSettings) -> bool:
        if password == PASSWORD:
            for _ in range(5):
                enter(database, password="wrong")
        return real(stored, password, limits)

    monkeypatch.setattr(passwords, "verify", slow)
    assert enter(database).sort == LoginSort.LOCKED


def test_a_password_that_changes_while_the_old_one_is_checked_lets_nobody_in(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    person(database)
    real = passwords.verify

    def slow(stored: str, password: str, limits: AccessSettings) -> bool:
        with database.begin() as connection:
            users.reset_password(connection, ROOT, "li", at=T0)
        return real(stored, password, limits)

    monkeypatch.setattr(passwords, "verify", slow)
    assert enter(database).sort == LoginSort.WRONG


def test_no_password_is_checked_inside_a_transaction(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    person(database)
    real = passwords.verify

    def free(stored: str, password: str, limits: AccessSettings) -> bool:
        assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # QueuePool
        return real(stored, password, limits)

    monkeypatch.setattr(passwords, "verify", free)
    assert enter(database).sort == LoginSort.OK
    user = person(database, "hua")
    new = "another horse on a hill"
    logins.set_password(database, user.actor(), "hua", old=PASSWORD, new=new, at=T0, limits=LIMITS)


def test_a_code_is_asked_for_and_serves_once(database: Database) -> None:
    secret = with_totp(database)
    later = T0 + 60 * SECOND
    assert enter(database, at=later).sort == LoginSort.CODE_NEEDED
    assert enter(database, at=later, code="000000").sort == LoginSort.WRONG
    assert enter(database, at=later, code=code_at(secret, later)).sort == LoginSort.OK
    assert enter(database, at=later + 1, code=code_at(secret, later)).sort == LoginSort.WRONG  # over a shoulder
    assert enter(database, at=later + 1, code=code_at(secret, later - 30 * SECOND)).sort == LoginSort.WRONG  # older
    assert enter(database, at=later + 1, code=code_at(secret, later + 30 * SECOND)).sort == LoginSort.OK


def test_the_code_of_the_enrolment_does_not_serve_for_a_login(database: Database) -> None:
    secret = with_totp(database)
    assert enter(database, at=T0, code=code_at(secret, T0)).sort == LoginSort.WRONG


def test_two_logins_with_one_code_let_one_in(database: Database) -> None:
    secret = with_totp(database)
    later = T0 + 60 * SECOND
    together = Barrier(4)

    def try_it(_number: int) -> LoginSort:
        together.wait(60)
        return enter(database, at=later, code=code_at(secret, later)).sort

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(try_it, range(4))) == [LoginSort.OK, *[LoginSort.WRONG] * 3]


def test_wrong_codes_lock_like_wrong_passwords(database: Database) -> None:
    secret = with_totp(database)
    later = T0 + 60 * SECOND
    for _ in range(4):
        enter(database, at=later, code="000000")
        assert (
            enter(database, at=later).sort == LoginSort.CODE_NEEDED
        )  # and that the password is right forgets nothing
    assert enter(database, at=later, code="000000").locked_until == later + 30 * SECOND
    assert enter(database, at=later, code=code_at(secret, later)).sort == LoginSort.LOCKED


def test_a_role_that_needs_codes_opens_the_door_to_the_enrolment_alone(database: Database) -> None:
    person(database, "li", Role.ADMIN)
    assert enter(database, require_totp_for=frozenset({Role.ADMIN})).sort == LoginSort.MUST_ENROL
    assert enter(database, require_totp_for=frozenset({Role.APPROVER})).sort == LoginSort.OK


def test_a_hash_of_last_year_is_made_anew_at_the_next_login(database: Database) -> None:
    person(database)
    stronger = AccessSettings(argon2_time=2, argon2_memory_kib=1024)
    for limits in (stronger, stronger, LIMITS):
        assert logins.login(database, name="li", password=PASSWORD, at=T0, limits=limits).sort == LoginSort.OK
        with database.read() as connection:
            assert f"t={limits.argon2_time}," in connection.execute(sa.select(User.password_hash)).scalar_one()


def test_a_new_password_ends_the_other_logins(database: Database) -> None:
    user = person(database)
    with database.begin() as connection:
        here, _ = sessions.open_session(connection, user.id, "", T0, LIMITS)
        there, _ = sessions.open_session(connection, user.id, "", T0, LIMITS)
    new, keep = "another horse on a hill", sessions.digest(here)
    logins.set_password(database, user.actor(), "li", old=PASSWORD, new=new, at=T0 + 1, limits=LIMITS, keep=keep)
    with database.read() as connection:
        assert sessions.find(connection, here, T0 + 2) is not None
        assert sessions.find(connection, there, T0 + 2) is None
    assert enter(database).sort == LoginSort.WRONG
    assert enter(database, password=new).sort == LoginSort.OK


@pytest.mark.parametrize(
    ("old", "new", "sort"),
    [
        ("wrong", "another horse on a hill", "forbidden"),
        (PASSWORD, PASSWORD, "invalid"),
        (PASSWORD, "short", "invalid"),
    ],
)
def test_a_change_of_password_that_is_refused(database: Database, old: str, new: str, sort: str) -> None:
    user = person(database)
    with pytest.raises(RefusedError) as refused:
        logins.set_password(database, user.actor(), "li", old=old, new=new, at=T0, limits=LIMITS)
    assert refused.value.sort == sort
    assert enter(database).sort == LoginSort.OK


def test_guessing_the_old_password_from_a_stolen_session_locks_the_account(database: Database) -> None:
    user = person(database)
    for _ in range(5):
        with pytest.raises(RefusedError):
            logins.set_password(
                database, user.actor(), "li", old="guess", new="another horse on a hill", at=T0, limits=LIMITS
            )
    assert enter(database).sort == LoginSort.LOCKED


def test_nobody_changes_somebody_elses_password(database: Database) -> None:
    person(database)
    for actor in (ROOT, Actor("user:wang", frozenset(Role), areas=None)):
        with pytest.raises(RefusedError, match="his own"):
            logins.set_password(database, actor, "li", old=PASSWORD, new="another horse on", at=T0, limits=LIMITS)
