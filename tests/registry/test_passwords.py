"""Passwords: what is taken, what is refused, and the same work whoever is asked for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from registry import passwords
from registry.settings import AccessSettings
from tests.registry.people import LIMITS


@pytest.mark.parametrize(
    "password",
    [
        "a blue horse on a hill",
        "Xk9#mQ2$vL",
        "水表读数每天早上八点整",
        "x1y2z3w4v5" * 20,
        "' OR 1=1; DROP TABLE user_account --",
    ],
)
def test_long_sentences_and_any_script_are_taken(password: str) -> None:
    assert passwords.problem(password, name="li", display_name="李雷") == ""


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("short", "at least 10"),
        ("x1y2z3w4v5" * 20 + "x", "at most 200"),
        ("tab\tin the middle", "control"),
        ("lone \ud800 surrogate", "control"),
        ("li-hua-dispatcher", "name"),
        ("Li.Hua.Dispatcher2026", "name"),
        ("lihuadispatcherlihuadispatcher", "name"),
        ("aaaaaaaaaaaa", "different"),
        ("abababababab", "different"),
        ("Password123", "first that anybody tries"),
        ("pass-word-123", "first that anybody tries"),
        ("1234567890", "first that anybody tries"),
        ("QWERTYUIOP", "first that anybody tries"),
        ("9876543210", "first that anybody tries"),
        ("woaini1314", "first that anybody tries"),
    ],
)
def test_easy_passwords_are_refused_with_the_reason(password: str, says: str) -> None:
    assert says in passwords.problem(password, name="li.hua.dispatcher")


def test_a_password_is_kept_as_argon2id_with_its_parameters() -> None:
    stored = passwords.hash_password("a blue horse on a hill", LIMITS)
    assert stored.startswith("$argon2id$v=19$m=1024,t=1,p=1$")
    assert stored != passwords.hash_password("a blue horse on a hill", LIMITS)  # its own salt
    assert passwords.verify(stored, "a blue horse on a hill", LIMITS)
    assert not passwords.verify(stored, "a blue horse on a hill ", LIMITS)


def test_the_way_a_letter_was_typed_does_not_matter() -> None:
    stored = passwords.hash_password("caf\u00e9 au lait", LIMITS)
    assert passwords.verify(stored, "cafe\u0301 au lait", LIMITS)


@given(st.text(max_size=250))
def test_whatever_is_typed_is_judged_and_hashed_without_an_error(text: str) -> None:
    passwords.problem(text, name="li", display_name=text)
    stored = passwords.hash_one_time(text)
    assert passwords.verify(stored, text, LIMITS) == (len(text) <= passwords.LONGEST or text == "")


@pytest.mark.parametrize("stored", ["", "one-time", "slow"])
def test_every_check_costs_one_full_hash_whoever_is_asked_for(monkeypatch: pytest.MonkeyPatch, stored: str) -> None:
    """Counted, not timed: the passes of Argon2 with today's parameters that a wrong password takes."""
    limits = AccessSettings(argon2_time=2, argon2_memory_kib=1024)
    known = {
        "": "",
        "one-time": passwords.hash_one_time("344pa-zxrv6-mpcg2-zttqn"),
        "slow": passwords.hash_password("a blue horse on a hill", limits),
    }[stored]
    passwords.verify("", "x", limits)  # makes the decoy
    full: list[Any] = []
    real = PasswordHasher.verify

    def counted(self: PasswordHasher, hash: str | bytes, password: str | bytes) -> bool:
        full.append(1 if "t=2," in str(hash) else 0)
        return real(self, hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    assert not passwords.verify(known, "wrong", limits)
    assert sum(full) == 1


def test_a_novel_as_a_password_is_no_work() -> None:
    assert not passwords.verify(passwords.hash_one_time(""[:0] + "short one"), "x" * 10_000_000, LIMITS)


@pytest.mark.parametrize("stored", ["x", "$argon2id$v=19$m=1024,t=1,p=1$zz$zz", "$2b$12$abcdefghijklmnopqrstuv"])
def test_a_damaged_hash_lets_nobody_in(stored: str) -> None:
    assert not passwords.verify(stored, "x", LIMITS)


def test_one_time_passwords_can_be_read_out_and_do_not_repeat() -> None:
    made = {passwords.one_time_password() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"[a-z2-7]{5}(-[a-z2-7]{5}){3}", password) for password in made)
