"""`metergate precision`, and `check` on a policy, as somebody at the host types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.orders import teams
from api.orders.policy import SHIPPED
from api.orders.receipts import Filing, file_receipt
from api.orders.service import Orders
from api.orders.settings import OrderSettings
from api.orders.words import Result as Found
from metergate.__main__ import build
from metering.clock import ManualClock
from registry import findings, users
from registry.books import import_meters
from registry.database import Database
from registry.roles import Role, console
from tests.api.findings_world import leak
from tests.api.world import METERS

NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
BOSS = console("test")


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A leak that a crew found to be one."""
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    monkeypatch.setenv("METERGATE__REGISTRY__URL", url)
    database = Database(url)
    database.upgrade()
    with database.begin() as connection:
        import_meters(connection, METERS)
        findings.record(connection, [leak(NOW)], now_ms=NOW)
        users.create(connection, BOSS, name="li", display_name="", roles=(Role.WORKER,), ranks=(), areas=None, at=NOW)
    Orders(OrderSettings(inspections="off"), database, ManualClock(NOW)).turn()
    with database.begin() as connection:
        teams.dispatch(connection, BOSS, 1, "li", now_ms=NOW)
        filing = Filing(worker="li", arrived_at=NOW, result=Found.PASSED, label="true")
        file_receipt(connection, BOSS, 1, filing, now_ms=NOW)
    database.close()


def call(*words: str) -> Result:
    result = CliRunner().invoke(build(("precision", "check")), list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_precision_says_how_often_a_rule_was_right(labelled: None) -> None:
    (line,) = [json.loads(text) for text in call("precision").stdout.splitlines()]
    assert (line["rule"], line["kind"], line["month"], line["precision"]) == ("burst", "leak", "2026-03", 1.0)
    assert call("precision", "--rule", "stuck").stdout == ""
    assert call("precision", "--from", "2026-03-02").stdout == ""
    assert len(call("precision", "--from", "2026-02-01", "--to", "2026-04-01").stdout.splitlines()) == 1
    assert call("precision", "--from", "yesterday").exit_code == 2


def test_check_explains_a_policy_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    said = call("check", "--policy", str(SHIPPED))
    assert said.exit_code == 0
    words = said.stderr.replace("\n", " ")
    assert (
        "leak-urgent: leak of severity major or above with medium gas opens a work order leak visit 漏气抢修" in words
    )
    assert "begun within 1 h, finished within 24 h" in words


def test_check_refuses_a_wrong_policy_with_line_value_and_what_is_allowed(tmp_path: Path) -> None:
    wrong = tmp_path / "mine.toml"
    text = SHIPPED.read_text("utf-8").replace('deadline = "3 working days"', 'deadline = "3 days"')
    wrong.write_text(text.replace('kinds = ["tamper"]', 'kinds = ["tampr"]'), "utf-8")
    said = call("check", "--policy", str(wrong))
    words = " ".join(said.stderr.split())
    assert said.exit_code == 2
    line = text.splitlines().index('deadline = "3 days"') + 1
    assert f"mine.toml:{line}: " in words
    assert '"3 days"' in words
    assert '"5 working days" (1 to 366)' in words
    assert 'did you mean "tamper"?' in words


def test_settings_that_name_a_policy_explain_it(tmp_path: Path) -> None:
    settings = tmp_path / "metergate.toml"
    settings.write_text(f'[orders]\npolicy = "{SHIPPED}"\n', "utf-8")
    assert "leak-urgent" in call("check", str(settings)).stderr
    settings.write_text('[orders]\nextra_off = ["2026-03-02"]\nextra_worked = ["2026-03-02"]\n', "utf-8")
    said = call("check", str(settings))
    assert (said.exit_code, "given as worked and as off" in " ".join(said.stderr.split())) == (2, True)
