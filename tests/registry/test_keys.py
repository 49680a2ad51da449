"""Keys of programs: found while they are good, with the rights that their maker could give."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa

from registry import audit, keys
from registry.database import Database
from registry.keys import KeyFacts
from registry.models_access import ApiKey
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from tests.registry.people import DAY, HOUR, MINUTE, ROOT, T0

D1 = frozenset({"D1"})
WANG = Actor("user:wang", frozenset({Role.BILLING, Role.VIEWER}), frozenset(), D1)


def made(database: Database, actor: Actor = ROOT, **change: Any) -> tuple[str, KeyFacts]:
    wanted: dict[str, Any] = {"name": "SCADA", "roles": [Role.VIEWER], "areas": D1, "read_only": True}
    wanted |= {"expires_at": T0 + 90 * DAY, "at": T0}
    with database.begin() as connection:
        return keys.create(connection, actor, **wanted | change)


def found(database: Database, text: str, at: int = T0) -> KeyFacts | None:
    with database.read() as connection:
        return keys.find(connection, text, at, address="10.0.0.7")


def test_a_key_is_found_with_its_rights(database: Database) -> None:
    text, facts = made(database)
    assert re.fullmatch(r"mg_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", text)
    assert text.startswith(facts.id + "_")
    seen = found(database, text)
    assert seen is not None
    assert seen.actor == Actor(f"key:{facts.id}", frozenset({Role.VIEWER}), frozenset(), D1, True, "10.0.0.7")
    assert (seen.name, seen.created_by, seen.expires_at) == ("SCADA", "console:root", T0 + 90 * DAY)


def test_neither_table_nor_audit_hold_the_secret(database: Database) -> None:
    text, facts = made(database)
    secret = text.removeprefix(facts.id + "_")
    with database.read() as connection:
        stored = str(connection.execute(sa.select(ApiKey.__table__)).all())
        (row,) = audit.records(connection)
    assert secret not in stored + str(row)
    assert (row["action"], row["object_id"]) == ("key.create", facts.id)


def test_every_changed_letter_is_another_key(database: Database) -> None:
    text, _ = made(database)
    for place, letter in enumerate(text):
        wrong = text[:place] + ("a" if letter != "a" else "b") + text[place + 1 :]
        assert found(database, wrong) is None
    for wrong in (text[:-1], text + "a", text.upper(), "", "mg_", "x" * 100_000, text + "\0", "\ud800", " " + text):
        assert found(database, wrong) is None


def test_a_key_ends_at_its_hour(database: Database) -> None:
    text, _ = made(database)
    assert found(database, text, T0 + 90 * DAY - 1) is not None
    assert found(database, text, T0 + 90 * DAY) is None


def test_a_revoked_key_is_none_and_revoking_twice_is_harmless(database: Database) -> None:
    text, facts = made(database)
    with database.begin() as connection:
        assert keys.revoke(connection, ROOT, facts.id, at=T0 + 1).revoked_at == T0 + 1
        assert keys.revoke(connection, ROOT, facts.id, at=T0 + 2).revoked_at == T0 + 1
        assert [row["action"] for row in audit.records(connection)] == ["key.revoke", "key.create"]
    assert found(database, text, T0 + 1) is None


def test_use_is_noted_at_most_once_a_minute(database: Database) -> None:
    text, facts = made(database)
    assert facts.touch_due(T0)
    with database.begin() as connection:
        keys.touch(connection, facts.id, T0)
        keys.touch(connection, facts.id, T0 - 1)  # a slower request comes later
    seen = found(database, text)
    assert seen is not None
    assert (seen.used_at, seen.touch_due(T0 + MINUTE - 1), seen.touch_due(T0 + MINUTE)) == (T0, False, True)


@pytest.mark.parametrize(
    "change",
    [
        {"roles": [Role.ADMIN]},
        {"roles": [Role.VIEWER, Role.APPROVER]},
        {"areas": frozenset({"D2"})},
        {"areas": frozenset({"D1", "D2"})},
        {"areas": None},
    ],
)
def test_nobody_gives_a_key_what_he_does_not_have(database: Database, change: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as refused:
        made(database, WANG, **change)
    assert refused.value.sort == "forbidden"
    with database.read() as connection:
        assert keys.list_keys(connection) == []


def test_somebody_gives_a_key_what_he_has_and_an_administrator_everything(database: Database) -> None:
    _, his = made(database, WANG, roles=[Role.BILLING])
    _, all_of_it = made(database, Actor("user:boss", frozenset({Role.ADMIN}), areas=D1), roles=list(Role), areas=None)
    assert (his.created_by, all_of_it.actor.areas) == ("user:wang", None)
    with pytest.raises(RefusedError):
        made(database, Actor("key:mg_abcdefgh", frozenset(Role), areas=None, read_only=True))
    with database.read() as connection:
        assert keys.list_keys(connection, created_by="user:wang") == [his]


@pytest.mark.parametrize(
    "change",
    [
        {"name": " "},
        {"name": "a\nb"},
        {"name": "x" * 201},
        {"roles": []},
        {"areas": frozenset()},
        {"expires_at": T0},
        {"expires_at": T0 + 401 * DAY},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(database: Database, change: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as refused:
        made(database, **change)
    assert refused.value.sort == "invalid"


def test_after_a_rotation_both_are_good_for_a_while(database: Database) -> None:
    old_text, old = made(database)
    with database.begin() as connection:
        new_text, new = keys.rotate(
            connection, ROOT, old.id, old_until=T0 + DAY, expires_at=T0 + 300 * DAY, at=T0 + HOUR
        )
    assert (new.name, new.actor.roles, new.actor.areas, new.actor.read_only) == (
        "SCADA",
        frozenset({Role.VIEWER}),
        D1,
        True,
    )
    assert found(database, old_text, T0 + DAY - 1) is not None
    assert found(database, old_text, T0 + DAY) is None
    assert found(database, new_text, T0 + 300 * DAY - 1) is not None
    with database.read() as connection:
        assert audit.records(connection)[0]["detail"]["after"]["next"] == new.id


def test_a_rotation_never_makes_the_old_key_last_longer(database: Database) -> None:
    text, old = made(database)
    with database.begin() as connection:
        keys.rotate(connection, ROOT, old.id, old_until=T0 + 300 * DAY, expires_at=T0 + 300 * DAY, at=T0)
    assert found(database, text, T0 + 90 * DAY) is None


def test_a_key_that_is_over_is_not_rotated(database: Database) -> None:
    _, facts = made(database)
    with database.begin() as connection:
        keys.revoke(connection, ROOT, facts.id, at=T0)
        with pytest.raises(RefusedError, match="make a new one") as refused:
            keys.rotate(connection, ROOT, facts.id, old_until=T0 + 1, expires_at=T0 + DAY, at=T0)
    assert refused.value.sort == "conflict"


def test_only_its_maker_or_an_administrator_ends_a_key(database: Database) -> None:
    _, facts = made(database)
    _, his = made(database, WANG)
    hua = Actor("user:hua", frozenset({Role.VIEWER, Role.BILLING}), frozenset(), D1)
    with database.begin() as connection:
        for actor, key_id in ((WANG, facts.id), (hua, his.id)):
            with pytest.raises(RefusedError) as refused:
                keys.revoke(connection, actor, key_id, at=T0)
            assert refused.value.sort == "forbidden"
        assert keys.revoke(connection, WANG, his.id, at=T0).revoked_at == T0
        for nonsense in ("mg_aaaaaaaa", "\0", "x" * 10_000):
            with pytest.raises(RefusedError, match="there is no key"):
                keys.revoke(connection, ROOT, nonsense, at=T0)


def test_keys_are_listed_newest_first(database: Database) -> None:
    ids = [made(database, at=T0 + number)[1].id for number in range(3)]
    with database.begin() as connection:
        keys.revoke(connection, ROOT, ids[1], at=T0 + 9)
        assert [facts.id for facts in keys.list_keys(connection)] == ids[::-1]
        assert [facts.id for facts in keys.list_keys(connection, good_at=T0 + 9)] == [ids[2], ids[0]]
