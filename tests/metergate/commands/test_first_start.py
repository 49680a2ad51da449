"""The first start of the API: an administrator and a one-time password, printed once and to people only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metergate.commands.services import welcome_first_admin
from metering.clock import ManualClock
from registry import users
from registry.database import Database
from registry.logins import LoginSort, login
from registry.settings import AccessSettings


def test_the_first_start_prints_a_password_that_is_good_once_and_the_second_start_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database, clock, limits = Database(f"sqlite:///{tmp_path / 'registry.db'}"), ManualClock(), AccessSettings()
    database.upgrade()
    welcome_first_admin(database, limits, clock)
    told = capsys.readouterr()
    assert told.out == ""
    found = re.search(r"user admin with the one-time password (\S+)", " ".join(told.err.split()))
    assert found
    result = login(database, name="admin", password=found[1], at=clock.now_ms(), limits=limits)
    assert result.sort is LoginSort.MUST_CHANGE
    with database.read() as connection:
        assert not users.ready(connection)  # until it was changed, only loopback is served
    welcome_first_admin(database, limits, clock)
    assert capsys.readouterr().err == ""
    database.close()
