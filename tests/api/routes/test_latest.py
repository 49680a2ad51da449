"""The newest reading of every meter, in three formats."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from api.middleware import unavailable
from api.settings import ApiSettings
from metering.errors import StoreError
from registry import ledger
from tests.api.world import T0, World, at, make_world


def test_every_meter_that_was_read_stands_once_and_no_other(world: World) -> None:
    items = world.get("/api/v1/latest").json()["items"]
    assert [(row["meter"], row["read_at"], row["age_s"]) for row in items] == [
        ("G-0001", at(23), 3600),
        ("W-0001", "2026-03-01T23:59:55.000Z", 5),
    ]


def test_a_millionth_of_a_cubic_metre_is_shown_exactly_with_its_reason(world: World) -> None:
    row = world.get("/api/v1/latest?medium=water").json()["items"][0]
    assert row["values"] == {"volume": {"value": "0.000007", "unit": "m3"}}
    assert (row["quality"], row["reason"], row["meter_time"]) == ("suspect", "index_step_back", None)


@pytest.mark.parametrize(
    ("query", "meters"),
    [
        ("quality=suspect", ["W-0001"]),
        ("medium=gas", ["G-0001"]),
        ("gateway=gw-1", ["G-0001", "W-0001"]),
        ("gateway=gw-2", []),
        ("district=south", ["W-0001"]),
        ("district=south&quality=valid", []),
    ],
)
def test_filters_narrow_the_list(world: World, query: str, meters: list[str]) -> None:
    assert [row["meter"] for row in world.get(f"/api/v1/latest?{query}").json()["items"]] == meters


def test_the_etag_changes_with_the_reading_and_not_with_its_age(world: World) -> None:
    first = world.get("/api/v1/latest")
    world.clock.pause(10)
    again = world.get("/api/v1/latest", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    with world.database.begin() as connection:
        ledger.save_latest(
            connection,
            [ledger.LatestRow("W-0001", T0 + 90_000_000, T0, None, "valid", "", "poll", 0, {"volume": 8})],
        )
    changed = world.get("/api/v1/latest", headers={"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200


def test_json_lines_hold_the_same_rows_as_the_page(world: World) -> None:
    page = world.get("/api/v1/latest").json()["items"]
    answer = world.get("/api/v1/latest", headers={"accept": "application/x-ndjson"})
    assert [json.loads(line) for line in answer.text.splitlines()] == page


def test_csv_cells_cannot_run_as_formulas_and_numbers_stay_numbers(world: World) -> None:
    evil = ['=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "＝1", 'a","b']
    with world.database.begin() as connection:
        ledger.save_latest(
            connection,
            [
                ledger.LatestRow(name, T0, T0, None, "valid", name, "poll", 0, {"temperature": -5_250_000})
                for name in evil
            ],
        )
    text = world.get("/api/v1/latest?format=csv").text
    rows = {row["meter"]: row for row in csv.DictReader(io.StringIO(text, newline="")) if row["unit"] == "degC"}
    assert set(rows) == {"'" + name for name in evil[:5]} | {'a","b'}
    assert all(row["value"] == "-5.25" for row in rows.values())
    assert not any(cell.startswith(tuple("=+@＝")) for row in rows.values() for cell in row.values())


def test_streams_have_their_own_places_and_give_them_back(tmp_path: Path) -> None:
    world = make_world(tmp_path, settings=ApiSettings(max_requests=4))
    house = world.app.state.house
    house.streams = 1  # one of the four places is for streams, and somebody reads slowly
    answer = world.get("/api/v1/latest?format=csv")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:metergate:problem:busy")
    house.streams = 0
    for _ in range(3):
        assert world.get("/api/v1/latest?format=csv").status_code == 200
    assert house.streams == 0
    world.close()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("text/csv;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/csv, application/json", "text/csv; charset=utf-8"),
        ("text/csv;q=0, */*;q=0.1", "application/json"),
    ],
)
def test_the_accept_header_chooses_the_format(world: World, accept: str, kind: str) -> None:
    assert world.get("/api/v1/latest", headers={"accept": accept}).headers["content-type"] == kind


def test_a_format_that_we_do_not_write_is_a_406(world: World) -> None:
    answer = world.get("/api/v1/latest", headers={"accept": "application/pdf"})
    assert (answer.status_code, answer.json()["type"]) == (406, "urn:metergate:problem:not-acceptable")


def test_a_registry_that_cannot_be_read_is_a_503(world: World) -> None:
    with world.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE latest")
    answer = world.get("/api/v1/latest")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:metergate:problem:registry-unavailable")
    assert "no such table" in answer.json()["detail"]


def test_an_error_of_ours_is_a_500_that_says_nothing_of_the_inside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("secret inside")

    monkeypatch.setattr("api.queries.latest.list_latest", broken)
    with capture_logs() as logs:
        answer = world.get("/api/v1/latest")
    assert [(line["event"], line["number"], line["path"]) for line in logs] == [("incident", 1, "/api/v1/latest")]
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:metergate:problem:internal-error")
    assert "incident 1" in answer.json()["detail"]
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_a_store_error_names_the_store() -> None:
    assert b"the store cannot be read now: disk gone" in unavailable(StoreError("disk gone"), "/x").body
