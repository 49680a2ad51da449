"""Second factors: the standard's own codes, one step of slack, and a secret that counts when it was confirmed."""

from __future__ import annotations

import base64

import pyotp
import pytest
import sqlalchemy as sa

from registry import logins, sessions, totp
from registry.database import Database
from registry.logins import LoginSort
from registry.models_access import User
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from tests.registry.people import LIMITS, PASSWORD, ROOT, T0, person

RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("second", "code"), [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037")]
)
def test_codes_of_rfc_6238_appendix_b(second: int, code: str) -> None:
    """The appendix has eight digits (94287082, 07081804, 89005924, 69279037); six are the last six of them."""
    assert totp.step_of(RFC_SECRET, code, second * 1000) == second // 30


def test_a_phone_may_be_one_step_off_and_no_more() -> None:
    code = pyotp.TOTP(RFC_SECRET).at(3000)  # the first second of step 100
    right = [second for second in range(2900, 3100) if totp.step_of(RFC_SECRET, code, second * 1000) is not None]
    assert (right[0], right[-1]) == (2970, 3059)
    assert {totp.step_of(RFC_SECRET, code, second * 1000) for second in right} == {100}


@pytest.mark.parametrize("code", ["", "28708", "2870820", "28708a", "２８７０８２", "-87082", "\ud800"])
def test_what_is_no_code(code: str) -> None:
    assert totp.step_of(RFC_SECRET, code, 59_000) is None


def test_a_code_may_be_typed_in_two_groups() -> None:
    assert totp.step_of(RFC_SECRET, "287 082", 59_000) == 1


def test_a_new_secret_counts_once_it_was_confirmed(database: Database) -> None:
    user = person(database)
    with database.begin() as connection:
        secret, address = totp.enrol(connection, user.actor(), "li", at=T0)
    assert address == f"otpauth://totp/Metergate:li?secret={secret}&issuer=Metergate"
    assert len(base64.b32decode(secret)) == 20  # 160 bits, as RFC 4226 recommends
    assert logins.login(database, name="li", password=PASSWORD, at=T0, limits=LIMITS).sort == LoginSort.OK
    with database.begin() as connection:
        with pytest.raises(RefusedError, match="not right"):
            totp.confirm(connection, user.actor(), "li", "000000", at=T0)
        here, _ = sessions.open_session(connection, user.id, "", T0, LIMITS)
        there, _ = sessions.open_session(connection, user.id, "", T0, LIMITS)
        code = pyotp.TOTP(secret).at(T0 // 1000)
        totp.confirm(connection, user.actor(), "li", code, at=T0, keep=sessions.digest(here))
        assert sessions.find(connection, here, T0) is not None
        assert sessions.find(connection, there, T0) is None
        with pytest.raises(RefusedError, match="enrol first"):
            totp.confirm(connection, user.actor(), "li", code, at=T0)
    assert logins.login(database, name="li", password=PASSWORD, at=T0, limits=LIMITS).sort == LoginSort.CODE_NEEDED


def test_a_second_enrolment_leaves_the_first_until_it_is_confirmed(database: Database) -> None:
    user = person(database)
    with database.begin() as connection:
        first, _ = totp.enrol(connection, user.actor(), "li", at=T0)
        totp.confirm(connection, user.actor(), "li", pyotp.TOTP(first).at(T0 // 1000), at=T0)
        totp.enrol(connection, user.actor(), "li", at=T0)
        stored = connection.execute(sa.select(User.totp_secret)).scalar_one()
    assert stored == first


def test_a_lost_phone(database: Database) -> None:
    user = person(database)
    with database.begin() as connection:
        secret, _ = totp.enrol(connection, user.actor(), "li", at=T0)
        totp.confirm(connection, user.actor(), "li", pyotp.TOTP(secret).at(T0 // 1000), at=T0)
        totp.remove(connection, ROOT, "li", at=T0)
    assert logins.login(database, name="li", password=PASSWORD, at=T0, limits=LIMITS).sort == LoginSort.OK


@pytest.mark.parametrize(
    "actor",
    [
        Actor("user:wang", frozenset(Role) - {Role.ADMIN}, areas=None),
        Actor("key:mg_abcdefgh", frozenset(Role), read_only=True),
    ],
)
def test_nobody_but_himself_or_an_administrator_touches_a_second_factor(database: Database, actor: Actor) -> None:
    person(database)
    with database.begin() as connection:
        for change in (
            lambda: totp.enrol(connection, actor, "li", at=T0),
            lambda: totp.confirm(connection, actor, "li", "000000", at=T0),
            lambda: totp.remove(connection, actor, "li", at=T0),
        ):
            with pytest.raises(RefusedError) as refused:
                change()
            assert refused.value.sort == "forbidden"
