"""`metergate import purchases | scada | parents` and `metergate reconcile` from the outside."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ingest.store_sqlite import SqliteStore
from metergate.__main__ import build
from registry.database import Database
from tests.api.billing.town import DAY, M, add_place, at, deliver, readings

START = at("2026-02-18T00:00")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Settings of a house with a parent meter of 3 m³ a day and a child of 1 m³ a day."""
    database, store = Database(f"sqlite:///{tmp_path / 'r.db'}"), SqliteStore(tmp_path / "s.db", mode="write")
    database.upgrade()
    for point, rate in (("TOP", 3), ("P1", 1)):
        add_place(database, point, district="D1")
        deliver(database, store, readings(f"M-{point}", START, [n * rate * M for n in range(34)], step=DAY))
    store.close()
    database.close()
    config = tmp_path / "metergate.toml"
    config.write_text(
        f'[registry]\nurl = "sqlite:///{tmp_path / "r.db"}"\n[store]\nkind = "sqlite"\npath = "{tmp_path / "s.db"}"\n'
    )
    return config


def call(house: Path, *words: str) -> Result:
    return CliRunner().invoke(build(["import", "reconcile"]), [*words, "--config", str(house)])


def test_links_scada_and_a_run_each_and_a_batch_is_taken_back(house: Path, tmp_path: Path) -> None:
    links, totals = tmp_path / "links.csv", tmp_path / "scada.csv"
    links.write_text("parent,child,from\nTOP,P1,2026-01-01\n")
    rows = [
        f"P1,{month:02d}-{day:02d}" for month, day in [(2, d) for d in range(20, 29)] + [(3, d) for d in range(1, 20)]
    ]
    totals.write_text(
        "usage_point,from,interval,volume\n" + "".join(f"{row.replace(',', ',2026-')},day,1\n" for row in rows)
    )
    posted = call(house, "import", "parents", str(links), "--post")
    assert posted.exit_code == 0, posted.output
    assert call(house, "import", "scada", str(totals), "--post").exit_code == 0
    found = call(house, "reconcile", "parent", "2026-03")
    (one,) = [json.loads(line) for line in found.stdout.splitlines()]
    assert (one["verdict"], one["difference"], one["facts"]["parent"]) == (
        "loss",
        "56",
        "84",
    )  # 28 days of 3 and of 1
    assert "parent 2026-03: 1 loss" in found.stderr
    (two,) = [json.loads(line) for line in call(house, "reconcile", "scada", "2026-03").stdout.splitlines()]
    assert (two["verdict"], two["facts"]["scada"], two["facts"]["metered"]) == ("agrees", "28", "28")
    batch = json.loads(posted.stdout)["batch"]
    assert call(house, "import", "reverse", str(batch), "--note", "another riser").exit_code == 0
    assert "nothing to compare" in call(house, "reconcile", "parent", "2026-03").stderr


def test_bad_purchases_are_a_line_each_in_the_file_of_errors(house: Path, tmp_path: Path) -> None:
    file, errors = tmp_path / "bought.csv", tmp_path / "bad.csv"
    file.write_bytes("account_number,at,volume,note\nA-P1,2026-03-01,5,\u738b\nA-P9,2026-03-01,5,\n".encode("gbk"))
    seen = call(house, "import", "purchases", str(file), "--errors", str(errors), "--post")
    assert (seen.exit_code, json.loads(seen.stdout.splitlines()[0])["counts"]) == (1, {"bad": 1, "ok": 1})
    with errors.open(encoding="utf-8-sig", newline="") as source:
        table = list(csv.reader(source))
    assert [row[:2] for row in table[1:]] == [["3", "bad"]]
    assert 'account_number = "A-P9" has 0 usage points then' in table[1][5]
    assert "no_credit_reading" not in call(house, "reconcile", "prepaid", "2026-03").stdout  # nothing was posted
    good = tmp_path / "good.csv"
    good.write_text("usage_point,at,volume\nP1,2026-03-01,5\n")
    assert call(house, "import", "purchases", str(good), "--post").exit_code == 0
    run = call(house, "reconcile", "prepaid", "2026-03", "--order-exchanges")
    assert json.loads(run.stdout)["cause"] == "no_credit_reading"
    assert "0 meter exchanges are asked for" in run.stderr


def test_a_wrong_period_says_what_is_allowed(house: Path) -> None:
    wrong = call(house, "reconcile", "scada", "2026-3")
    assert (wrong.exit_code, "write a month such as 2026-03" in wrong.stderr) == (2, True)
    for command in ("prepaid", "scada", "parent"):
        assert "Example:" in call(house, "reconcile", command, "--help").stdout
