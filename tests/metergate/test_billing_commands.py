"""`metergate totals`, `close` and `why` from the outside: JSON lines on stdout, words on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ingest.store_sqlite import SqliteStore
from metergate.__main__ import build
from registry.database import Database
from tests.api.billing.town import M, add_place, at, deliver, readings

START = at("2026-02-10T00:00")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Settings of a house with two usage points; P2 was never read."""
    database, store = Database(f"sqlite:///{tmp_path / 'r.db'}"), SqliteStore(tmp_path / "s.db", mode="write")
    database.upgrade()
    add_place(database, "P1")
    add_place(database, "P2")
    deliver(database, store, readings("M-P1", START, [1000 * M + n * 10_000 for n in range(24 * 43)]))
    store.close()
    database.close()
    config = tmp_path / "metergate.toml"
    config.write_text(
        f'[registry]\nurl = "sqlite:///{tmp_path / "r.db"}"\n[store]\nkind = "sqlite"\npath = "{tmp_path / "s.db"}"\n'
    )
    return config


def call(*words: str) -> Result:
    return CliRunner().invoke(build([words[0]]), [*words])


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_totals_are_json_lines_and_a_summary_for_people(house: Path) -> None:
    result = call("totals", "2026-03", "--config", str(house))
    assert result.exit_code == 0, result.stderr
    one, two = lines(result)
    assert (one["usage_point_id"], one["state"], one["consumption"], one["unit"]) == ("P1", "billed", "6.72", "m3")
    assert one["opening"] == {"index": "1002.4", "read_at": "2026-02-19T16:00:00.000Z", "quality": "valid"}
    assert (two["state"], two["cause"], "consumption" in two) == ("missing", "not_commissioned", False)
    assert "1 billed, 1 missing" in result.stderr
    (missing,) = lines(call("totals", "2026-03", "--state", "missing", "--config", str(house)))
    assert missing["usage_point_id"] == "P2"


def test_closing_shows_what_is_open_then_closes_then_verifies(house: Path) -> None:
    shown = call("close", "2026-03", "--config", str(house))
    assert lines(shown) == [{"usage_point_id": "P2", "state": "missing", "cause": "not_commissioned"}]
    assert "metergate close 2026-03 --missing 1 --doubtful 0" in shown.stderr
    wrong = call("close", "2026-03", "--missing", "0", "--doubtful", "0", "--config", str(house))
    assert wrong.exit_code == 1
    assert "look at the list again" in wrong.stderr
    done = call("close", "2026-03", "--missing", "1", "--doubtful", "0", "--note", "new", "--config", str(house))
    assert (done.exit_code, lines(done)[0]["totals"]) == (0, 2)
    verified = call("close", "2026-03", "--verify", "--config", str(house))
    assert (verified.exit_code, lines(verified)[0]["wrong"]) == (0, [])
    assert lines(call("close", "2026-03", "--deltas", "--config", str(house))) == []


def test_why_tells_of_the_total_and_of_every_stretch(house: Path) -> None:
    result = call("why", "M-P1", "2026-03", "--config", str(house))
    total, stretch = lines(result)
    assert total["state"] == "billed"
    assert (stretch["state"], stretch["readings"]) == ("received", 672)
    assert "672 received" in result.stderr


@pytest.mark.parametrize("command", ["totals", "close", "why"])
def test_a_wrong_period_and_help_say_what_is_allowed(house: Path, command: str) -> None:
    words = [command, *(["P1"] if command == "why" else []), "2026-3", "--config", str(house)]
    result = call(*words)
    assert result.exit_code == 2
    assert "write a month such as 2026-03" in result.stderr
    assert "Example:" in call(command, "--help").stdout
