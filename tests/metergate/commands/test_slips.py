"""`metergate slips`, as somebody at the host types it before closing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from api.orders.slips import Sheet
from metergate.__main__ import build
from metergate.commands.slips import file_name
from registry.books import import_meters
from registry.database import Database
from registry.models_work_orders import WorkOrder
from tests.api.world import METERS

NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three orders on their way, one to somebody with an odd name."""
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    monkeypatch.setenv("METERGATE__REGISTRY__URL", url)
    database = Database(url)
    database.upgrade()
    values = {
        "usage_point_id": "UP-1", "place": "UP-1", "type": "leak_visit", "priority": "urgent", "state": "dispatched",
        "result": "", "opened_at": NOW, "opened_by": "service:orders", "reason_zh": "漏气", "reason_en": "leak",
        "accepted_at": NOW, "due_at": NOW, "due_rule": "24 h", "district": "north",
    }  # fmt: skip
    with database.begin() as connection:
        import_meters(connection, METERS)
        for worker in ("li", "li", "../../etc/x"):
            connection.execute(sa.insert(WorkOrder).values(**values, assignee=worker))
    database.close()


def call(*words: str) -> Result:
    return CliRunner().invoke(build(["slips", "check"]), ["slips", *words])


@pytest.mark.usefixtures("orders")
def test_one_file_per_district_and_worker_and_none_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = call("--date", "2026-03-01", "--pdf", str(folder), "--html", str(folder))
    assert done.exit_code == 0, done.output
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted((line["worker"], line["slips"]) for line in said) == [("../../etc/x", 1)] * 2 + [("li", 2)] * 2
    names = sorted(path.name for path in folder.iterdir())
    assert names[2:] == ["slips-2026-03-01-north-li.html", "slips-2026-03-01-north-li.pdf"]
    assert len(names) == 4
    assert (folder / names[3]).read_bytes().startswith(b"%PDF-")


@pytest.mark.usefixtures("orders")
def test_filters_and_a_day_without_slips(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert len(call("--date", "2026-03-01", "--worker", "li", "--html", str(folder)).stdout.splitlines()) == 1
    empty = call("--date", "2026-02-01", "--html", str(folder))
    assert (empty.exit_code, empty.stdout, "nothing to print" in empty.output) == (0, "", True)


@pytest.mark.parametrize(
    ("words", "why"), [(["--date", "1st", "--pdf", "x"], "write a day"), (["--date", "2026-03-01"], "where to put")]
)
def test_what_cannot_be_done_is_said(words: list[str], why: str) -> None:
    done = call(*words)
    assert (done.exit_code, why in done.output) == (2, True)


def test_two_names_that_look_alike_as_files_stay_two() -> None:
    first, second = Sheet("n", "a/b", "", "2026-03-01"), Sheet("n", "a:b", "", "2026-03-01")
    assert file_name(first) != file_name(second)
    assert "/" not in file_name(first) + file_name(Sheet("..", "..", "", "2026-03-01"))
