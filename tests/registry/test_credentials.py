"""Logins at the broker: one or two at once, hashes only, numbers never used again, every change audited."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
import sqlalchemy as sa

from metering.errors import RegistryError
from registry import credentials
from registry.database import Database
from registry.models import Gateway
from registry.models_access import AuditRecord, GatewayCredential
from registry.roles import console

LI = console("li")


@pytest.fixture
def books(database: Database) -> Database:
    with database.begin() as connection:
        connection.execute(
            sa.insert(Gateway), [{"id": name, "name": "", "district": ""} for name in ("gw-1", "gw-2", "gw", "gw.1")]
        )
    return database


def checks(line: str, password: str) -> bool:
    """Judge a line of Mosquitto's password file by the algorithm itself."""
    _, _, fields = line.partition(":")
    _, kind, rounds, salt, digest = fields.split("$")
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), base64.b64decode(salt), int(rounds))
    return kind == "7" and made == base64.b64decode(digest)


def test_the_password_is_handed_out_once_and_only_its_hash_stays(books: Database) -> None:
    with books.begin() as connection:
        issued = credentials.add(connection, "gw-1", LI, at=5)
    assert issued.user == "gw-1.1"
    assert len(issued.password) == 32
    assert issued.text() == f"gw-1.1\n{issued.password}\n"
    assert issued.password not in repr(issued)
    with books.read() as connection:
        (login,) = credentials.good(connection)
        everything = [
            repr(connection.execute(sa.select(table)).all())
            for table in (GatewayCredential.__table__, AuditRecord.__table__)
        ]
    assert checks(login.line, issued.password)
    assert not checks(login.line, issued.password[:-1])
    assert issued.password not in "".join(everything)


def test_a_rotation_keeps_two_good_ones_until_the_old_one_is_retired(books: Database) -> None:
    with books.begin() as connection:
        credentials.add(connection, "gw-1", LI, at=1)
        assert credentials.rotate(connection, "gw-1", LI, at=2).user == "gw-1.2"
        assert [login.user for login in credentials.good(connection)] == ["gw-1.1", "gw-1.2"]
        with pytest.raises(RegistryError, match=r"gw-1\.1 and gw-1\.2 are both good"):
            credentials.rotate(connection, "gw-1", LI, at=3)
        left = credentials.retire(connection, "gw-1.1", LI, at=4)
        assert [login.user for login in left] == ["gw-1.2"]
        with pytest.raises(RegistryError, match="retired already"):
            credentials.retire(connection, "gw-1.1", LI, at=5)
        assert credentials.rotate(connection, "gw-1", LI, at=6).user == "gw-1.3"


def test_a_number_is_never_used_again(books: Database) -> None:
    with books.begin() as connection:
        credentials.add(connection, "gw-1", LI, at=1)
        assert credentials.retire(connection, "gw-1.1", LI, at=2) == []
        assert credentials.good(connection) == []
        assert credentials.add(connection, "gw-1", LI, at=3).user == "gw-1.2"


def test_a_gateway_whose_id_looks_like_anothers_user_gets_a_name_of_its_own(books: Database) -> None:
    with books.begin() as connection:
        line = credentials.mosquitto_line("gw.1", "x")
        assert credentials.adopt(connection, [line], LI, at=1) == ["gw.1"]  # the gateway called gw.1
        assert credentials.add(connection, "gw", LI, at=2).user == "gw.2"
        assert {login.user: login.owner for login in credentials.good(connection)} == {"gw.1": "gw.1", "gw.2": "gw"}


def test_what_there_is_not_cannot_be_rotated_or_retired(books: Database) -> None:
    with books.begin() as connection:
        with pytest.raises(RegistryError, match="has no login that could be replaced"):
            credentials.rotate(connection, "gw-2", LI, at=1)
        with pytest.raises(RegistryError, match='no user "gw-9'):
            credentials.retire(connection, "gw-9.1", LI, at=1)
        credentials.add(connection, "gw-2", LI, at=1)
        with pytest.raises(RegistryError, match="has a login already"):
            credentials.add(connection, "gw-2", LI, at=2)


HOSTILE = (
    "+",
    "#",
    "gw/../x",
    "a\ntopic write #",
    "a:b",
    "",
    " gw-1",
    "$SYS",
    "@ingest",
    "x" * 49,
    "gw-1\0",
    "../etc",
)


def test_hostile_ids_get_no_login_even_when_the_registry_holds_them(books: Database) -> None:
    with books.begin() as connection:
        for name in HOSTILE:
            with pytest.raises(RegistryError, match="no gateway"):
                credentials.owner_of(connection, name)
            if books.is_sqlite or (len(name) <= 48 and "\0" not in name):
                connection.execute(sa.insert(Gateway).values(id=name, name="", district=""))
                with pytest.raises(RegistryError, match="cannot be a user of the broker"):
                    credentials.owner_of(connection, name)


def test_services_field_meters_and_the_office_have_owners_of_their_own(books: Database) -> None:
    with books.begin() as connection:
        assert credentials.owner_of(connection, "ingest") == "@ingest"
        assert credentials.owner_of(connection, "office") == "office"
        assert credentials.owner_of(connection, "gw-1", field_meters=True) == "@field:gw-1"
        assert credentials.add(connection, "@ingest", LI, at=1).user == "ingest.1"
        assert credentials.add(connection, "@field:gw-1", LI, at=1).user == "field-gw-1.1"
        for name in ("ingest", "office"):
            with pytest.raises(RegistryError):
                credentials.owner_of(connection, name, field_meters=True)


def test_a_gateway_called_like_a_service_cannot_become_one(books: Database) -> None:
    with books.begin() as connection:
        connection.execute(sa.insert(Gateway).values(id="ingest", name="", district=""))
        assert credentials.owner_of(connection, "ingest") == "@ingest"
        with pytest.raises(RegistryError, match="cannot be a user"):
            credentials.owner_of(connection, "ingest", field_meters=True)


def test_a_file_that_is_not_mosquittos_is_not_taken_over(books: Database) -> None:
    with books.begin() as connection:
        for line in ("gw-1", "gw-1:secret", "gw-1:$6$101$a$b", "gw 1:$7$101$QUJDRA==$" + "A" * 88, ""):
            with pytest.raises(RegistryError, match="line 2 is not USER"):
                credentials.adopt(connection, [credentials.mosquitto_line("gw-1", "x"), line], LI, at=1)


def test_every_change_is_audited_and_says_who(books: Database) -> None:
    with books.begin() as connection:
        credentials.add(connection, "gw-1", LI, at=1)
        credentials.rotate(connection, "gw-1", LI, at=2)
        credentials.retire(connection, "gw-1.1", LI, at=3)
        credentials.adopt(connection, [credentials.mosquitto_line("gw-2", "x")], LI, at=4)
        rows = connection.execute(sa.select(AuditRecord).order_by(AuditRecord.number)).mappings().all()
    found = [(row["actor"], row["action"], row["object_id"], row["at"]) for row in rows]
    assert found == [
        ("console:li", "credential.add", "gw-1.1", 1),
        ("console:li", "credential.rotate", "gw-1.2", 2),
        ("console:li", "credential.retire", "gw-1.1", 3),
        ("console:li", "credential.adopt", "gw-2", 4),
    ]
    assert json.loads(rows[0]["detail"]) == {"after": {"owner": "gw-1"}}
