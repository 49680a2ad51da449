"""The settings of access, as they stand in a file and in the environment."""

from __future__ import annotations

import pytest

from metering.errors import SettingsError
from metering.settings import parse
from registry.roles import Role
from registry.settings import AccessSettings


def test_roles_that_need_codes_are_words_of_the_file() -> None:
    text = 'require_totp_for = ["admin", "approver"]'
    assert parse(text, AccessSettings, name="x").totp_roles == {Role.ADMIN, Role.APPROVER}


def test_a_role_that_is_none_is_named() -> None:
    with pytest.raises(SettingsError, match=r"x:1: require_totp_for"):
        parse('require_totp_for = ["amdin"]', AccessSettings, name="x")


def test_the_longest_lock_is_not_shorter_than_the_first() -> None:
    with pytest.raises(SettingsError, match="lock_longest_s"):
        parse("lock_first_s = 600\nlock_longest_s = 60", AccessSettings, name="x")
