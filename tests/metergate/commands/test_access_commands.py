"""`metergate user`, `key` and `audit`, as an administrator types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyotp
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from metergate.__main__ import build
from metering.clock import SystemClock, parse_rfc3339
from registry import keys
from registry.database import Database
from registry.logins import LoginSort, login
from registry.settings import AccessSettings

LIMITS = AccessSettings(argon2_time=1, argon2_memory_kib=1024)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("METERGATE__REGISTRY__URL", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("METERGATE__AUDIT__ANCHORS", str(tmp_path / "anchors.jsonl"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def call(*words: str | Path) -> Result:
    result = CliRunner().invoke(build(("user", "key", "audit")), [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def said(*words: str | Path) -> list[dict[str, Any]]:
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def database(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'registry.db'}")


def forge(folder: Path, statement: str) -> None:
    """Change the file as somebody with the database's password would."""
    opened = database(folder)
    with opened.begin() as connection:
        connection.execute(sa.text(statement))
    opened.close()


def enter(folder: Path, name: str, password: str, code: str = "") -> LoginSort:
    opened = database(folder)
    now = SystemClock().now_ms()
    result = login(opened, name=name, password=password, code=code, at=now, limits=LIMITS)
    opened.close()
    return result.sort


def test_a_user_is_added_and_his_one_time_password_logs_in(folder: Path) -> None:
    (user,) = said("user", "add", "li", "--role", "dispatcher", "--rank", "team_lead", "--area", "D1", "--area", "D2")
    assert (user["roles"], user["ranks"], user["areas"]) == (["dispatcher"], ["team_lead"], ["D1", "D2"])
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.MUST_CHANGE
    (listed,) = said("user", "list")
    assert (listed["name"], "one_time_password" in listed) == ("li", False)
    assert listed["last_login_at"] is not None


def test_nobody_sees_everything_unless_it_is_said() -> None:
    result = call("user", "add", "li", "--role", "viewer")
    assert json.loads(result.stdout)["areas"] == []
    assert "li sees no area yet" in result.stderr
    assert said("user", "edit", "li", "--area", "*")[0]["areas"] == ["*"]


def test_an_edit_replaces_what_is_given_and_leaves_the_rest() -> None:
    said("user", "add", "li", "--role", "viewer", "--rank", "finance", "--area", "D1")
    (user,) = said("user", "edit", "li", "--role", "worker", "--display-name", "李雷")
    assert (user["roles"], user["ranks"], user["areas"]) == (["worker"], ["finance"], ["D1"])
    assert (user["display_name"], user["version"]) == ("李雷", 2)
    assert said("user", "edit", "li", "--no-rank")[0]["ranks"] == []


def test_a_disabled_user_is_out_and_his_keys_are_named(folder: Path) -> None:
    (user,) = said("user", "add", "li", "--role", "viewer", "--area", "D1")
    (key,) = said("key", "add", "export", "--role", "viewer", "--area", "D1")
    forge(folder, "UPDATE api_key SET created_by = 'user:li'")
    result = call("user", "disable", "li")
    assert f"key {key['id']} (export), which li made, stays good" in result.stderr
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.DISABLED
    assert said("user", "enable", "li")[0]["enabled"] is True
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.MUST_CHANGE


def test_the_last_administrator_cannot_be_disabled() -> None:
    said("user", "add", "boss", "--role", "admin", "--area", "*")
    result = call("user", "disable", "boss")
    assert (result.exit_code, result.stdout) == (1, "")
    assert '"boss" is the last administrator; make another one first' in result.stderr


def test_reset_and_unlock(folder: Path) -> None:
    (user,) = said("user", "add", "li", "--role", "viewer", "--area", "D1")
    for _ in range(5):
        enter(folder, "li", "wrong")
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.LOCKED
    assert said("user", "unlock", "li")[0]["failed"] == 0
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.MUST_CHANGE
    (again,) = said("user", "reset-password", "li")
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.WRONG
    assert enter(folder, "li", again["one_time_password"]) == LoginSort.MUST_CHANGE


def test_a_second_factor_is_enrolled_confirmed_and_removed(folder: Path) -> None:
    (user,) = said("user", "add", "li", "--role", "viewer", "--area", "D1")
    (new,) = said("user", "totp", "enrol", "li")
    assert new["otpauth"].startswith("otpauth://totp/Metergate:li?secret=" + new["secret"])
    assert call("user", "totp", "confirm", "li", "000000x").exit_code == 1
    code = pyotp.TOTP(new["secret"]).at(SystemClock().now_ms() // 1000)
    assert said("user", "totp", "confirm", "li", code)[0]["totp"] is True
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.CODE_NEEDED
    assert said("user", "totp", "remove", "li")[0]["totp"] is False
    assert enter(folder, "li", user["one_time_password"]) == LoginSort.MUST_CHANGE


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("user", "add", "Li Hua", "--role", "viewer"), 1, "a user's name has 1 to 64 of a-z"),
        (("user", "add", "li"), 1, "a user has at least one role"),
        (("user", "add", "li", "--role", "king"), 2, "king"),
        (("user", "edit", "nobody", "--role", "viewer"), 1, 'no user "nobody"'),
        (("key", "add", "x", "--role", "viewer"), 1, "at least one area"),
        (("key", "add", "x", "--role", "viewer", "--area", "*", "--days", "4000"), 1, "within 400 days"),
        (("key", "revoke", "mg_aaaaaaaa"), 1, "there is no key mg_aaaaaaaa"),
        (("audit", "list", "--since", "yesterday"), 2, "--since yesterday"),
        (("audit", "verify", "--anchors", "nowhere.jsonl"), 2, "there is no such file"),
    ],
)
def test_a_mistake_is_answered_in_words(words: tuple[str, ...], code: int, says: str) -> None:
    result = call(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr


def test_a_key_is_printed_once_listed_rotated_and_revoked(folder: Path) -> None:
    (key,) = said("key", "add", "SCADA", "--role", "viewer", "--area", "D1", "--read-only", "--days", "90")
    opened = database(folder)
    now = SystemClock().now_ms()
    with opened.read() as connection:
        facts = keys.find(connection, key["key"], now)
    assert facts is not None
    assert (facts.actor.read_only, facts.created_by.startswith("console:")) == (True, True)
    assert "key" not in said("key", "list")[0]
    (new,) = said("key", "rotate", key["key"], "--keep-hours", "0")  # a whole key pasted is its first part
    with opened.read() as connection:
        assert keys.find(connection, key["key"], SystemClock().now_ms()) is None
        assert keys.find(connection, new["key"], SystemClock().now_ms()) is not None
    opened.close()
    assert [facts["id"] for facts in said("key", "list")] == [new["id"]]
    assert said("key", "revoke", new["id"])[0]["good"] is False
    assert said("key", "list") == []
    assert len(said("key", "list", "--all")) == 2


def test_the_audit_lists_who_did_what() -> None:
    said("user", "add", "li", "--role", "viewer", "--area", "D1")
    said("user", "edit", "li", "--role", "worker")
    (key,) = said("key", "add", "SCADA", "--role", "viewer", "--area", "D1")
    rows = said("audit", "list")
    assert [row["action"] for row in rows] == ["key.create", "user.edit", "user.create"]
    assert all(row["actor"].startswith("console:") and parse_rfc3339(row["at"]) for row in rows)
    assert rows[1]["detail"] == {"before": {"roles": ["viewer"]}, "after": {"roles": ["worker"]}}
    assert [row["object_id"] for row in said("audit", "list", "--action", "user.")] == ["li", "li"]
    assert [row["number"] for row in said("audit", "list", "--kind", "key", "--id", key["id"])] == [3]
    assert said("audit", "list", "--until", rows[2]["at"]) == []
    assert [row["number"] for row in said("audit", "list", "--limit", "1")] == [3]


def test_a_sound_audit_exits_with_0() -> None:
    said("user", "add", "li", "--role", "viewer", "--area", "D1")
    result = call("audit", "verify")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"sound": True, "faults": 0, "rows": 1, "anchors": 1, "last": 1}
    assert "✓ sound: 1 rows" in result.stderr


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE audit SET actor = 'user:nobody' WHERE number = 2", "row 2 was edited"),
        ("DELETE FROM audit WHERE number = 2", "row 2 is missing: deleted"),
        ("DELETE FROM audit WHERE number = 3", "the tail is cut"),
        ("DELETE FROM audit", "the tail is cut: the head row knows row 3, the table ends at row 0"),
        ("UPDATE audit_head SET number = 9", "the head row knows row 9"),
    ],
)
def test_what_was_done_to_the_audit_is_named_and_exits_with_1(folder: Path, statement: str, says: str) -> None:
    for name in ("li", "hua", "wang"):
        said("user", "add", name, "--role", "viewer", "--area", "D1")
    forge(folder, statement)
    result = call("audit", "verify")
    assert result.exit_code == 1
    assert says in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert says in lines[0]["text"]
    assert lines[-1]["sound"] is False


def test_a_tail_cut_with_its_head_is_named_by_the_copy_of_another_host(folder: Path) -> None:
    said("user", "add", "li", "--role", "viewer", "--area", "D1")
    said("user", "add", "hua", "--role", "viewer", "--area", "D1")
    copy = folder / "copy.jsonl"
    copy.write_bytes((folder / "anchors.jsonl").read_bytes())
    forge(folder, "DELETE FROM audit WHERE number = 2")
    forge(folder, "UPDATE audit_head SET number = 1, hash = (SELECT hash FROM audit WHERE number = 1)")
    (folder / "anchors.jsonl").write_text((folder / "anchors.jsonl").read_text().splitlines(keepends=True)[0])
    assert call("audit", "verify").exit_code == 0  # who can write both files can forge both
    result = call("audit", "verify", "--anchors", copy)
    assert result.exit_code == 1
    assert "knows row 2, the table ends at row 1" in result.stderr


def test_an_anchor_by_hand_is_written_when_there_is_something_new(folder: Path) -> None:
    said("user", "add", "li", "--role", "viewer", "--area", "D1")
    (folder / "anchors.jsonl").unlink()
    assert "there are no anchors" in call("audit", "verify").stderr
    (made,) = said("audit", "anchor")
    assert made["number"] == 1
    result = call("audit", "anchor")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "says it already" in result.stderr


@pytest.mark.parametrize("words", [["user"], ["key"], ["audit"], ["user", "totp"]])
def test_every_command_shows_an_example(words: list[str]) -> None:
    listed = call(*words, "--help").stdout
    names = [line.split()[1] for line in listed.splitlines() if line.startswith("│ ") and line[2].isalpha()]
    assert names
    for name in names:
        assert f"Example: metergate {' '.join(words)} {name}" in call(*words, name, "--help").stdout or name == "totp"
