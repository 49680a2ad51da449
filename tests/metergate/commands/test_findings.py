"""`metergate findings`, as somebody at the host types it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from metergate.__main__ import build
from registry import findings
from registry.database import Database
from registry.models_access import AuditRecord
from tests.api.findings_world import leak

NOW = 1_772_323_200_000


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    monkeypatch.setenv("METERGATE__REGISTRY__URL", url)
    monkeypatch.setenv("METERGATE__AUDIT__ANCHORS", str(tmp_path / "anchors.jsonl"))
    monkeypatch.setenv("COLUMNS", "200")
    database = Database(url)
    database.upgrade()
    burst = leak(NOW)
    hidden = replace(burst, key="hidden", kind="comms_loss", severity="major", parent_key="outage:x")
    with database.begin() as connection:
        findings.record(connection, [burst, hidden, replace(burst, key="over", cleared_at=NOW)], now_ms=NOW)
    database.close()
    return tmp_path


def call(*words: str) -> Result:
    result = CliRunner().invoke(build(("findings", "key")), ["findings", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def ids(*words: str) -> list[int]:
    result = call("list", *words)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


def test_the_list_shows_what_holds_now_and_all_on_request() -> None:
    assert ids() == [1]
    assert ids("--all") == [3, 2, 1]
    assert ids("--state", "DSUPR") == [2]
    assert ids("--all", "--priority", "urgent", "--limit", "1") == [3]
    assert call("list", "--state", "OPEN").exit_code == 2


def test_one_finding_with_its_proof() -> None:
    shown = json.loads(call("show", "1").stdout)
    assert (shown["evidence"]["held_per_h"], shown["state"], shown["allowed"][0]) == (4.25, "UNACK", "acknowledge")
    missing = call("show", "9")
    assert (missing.exit_code, missing.stderr.strip()) == (1, "✗ there is no finding '9'")


def test_acknowledging_says_what_became_of_each(folder: Path) -> None:
    result = call("ack", "1", "2", "9", "3", "--note", "Zhao goes")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"id": 1, "from": "UNACK", "state": "ACKED"},
        {"id": 3, "from": "RTNUN", "state": "NORM"},
    ]
    assert "2: acknowledge is not possible in state DSUPR" in result.stderr
    assert "9: there is no finding 9" in result.stderr
    database = Database(f"sqlite:///{folder / 'registry.db'}")
    with database.read() as connection:
        actors = connection.execute(sa.select(AuditRecord.actor, AuditRecord.object_id)).all()
    database.close()
    assert [(actor[:8], number) for actor, number in actors] == [("console:", "1"), ("console:", "3")]
