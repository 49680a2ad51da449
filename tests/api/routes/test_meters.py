"""Meters, their readings, their closings."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.api.world import T0, World, at, gas_reading, make_world, write_readings


def test_the_list_names_every_meter_in_order_with_its_last_read(world: World) -> None:
    answer = world.get("/api/v1/meters").json()
    assert [item["id"] for item in answer["items"]] == ["E-0001", "G-0001", "W-0001"]
    assert answer["next_cursor"] is None
    assert answer["items"][1] == {
        "id": "G-0001",
        "serial": "SN100%",
        "medium": "gas",
        "profile": "example-gas",
        "quantity": "volume_standard",
        "state": "in_service",
        "gateway": "gw-1",
        "interval_s": 5,
        "usage_point": "UP-1",
        "district": "north",
        "last_read_at": at(23),
        "last_quality": "valid",
    }
    assert answer["items"][0]["last_read_at"] is None


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("medium=gas", ["G-0001"]),
        ("district=north", ["E-0001", "G-0001"]),
        ("gateway=gw-1", ["G-0001", "W-0001"]),
        ("gateway=gw-1&district=north", ["G-0001"]),
        ("state=sealed", []),
        ("silent=true", ["E-0001", "W-0001"]),
        ("silent=true&district=north", ["E-0001"]),
        ("silent=false&district=north", ["E-0001", "G-0001"]),
        ("search=-0001", ["E-0001", "G-0001", "W-0001"]),
        ("search=up-2", ["W-0001"]),
        ("search=hill", ["E-0001", "G-0001", "W-0001"]),
        ("search=100%25", ["G-0001"]),
        ("search=%25", ["G-0001"]),
        ("search=_", []),
    ],
)
def test_filters_narrow_the_list_and_wildcards_are_plain_letters(world: World, query: str, ids: list[str]) -> None:
    assert [item["id"] for item in world.get(f"/api/v1/meters?{query}").json()["items"]] == ids


def test_pages_follow_each_other_by_cursor_and_by_link(world: World) -> None:
    first = world.get("/api/v1/meters?limit=2")
    assert [item["id"] for item in first.json()["items"]] == ["E-0001", "G-0001"]
    second = world.get(f"/api/v1/meters?limit=2&cursor={first.json()['next_cursor']}")
    assert [item["id"] for item in second.json()["items"]] == ["W-0001"]
    assert second.json()["next_cursor"] is None
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    assert world.get(link[1 : link.index(">")]).json() == second.json()


def test_one_meter_shows_place_gateway_bus_and_newest_reading(world: World) -> None:
    meter = world.get("/api/v1/meters/G-0001").json()
    assert meter["qmax"] == {"value": "6", "unit": "m3/h"}
    assert meter["resolution"] == {"value": "0.001", "unit": "m3"}
    assert meter["gateway"] == {
        "id": "gw-1",
        "name": "",
        "online": True,
        "bus": {"name": "tcp-1", "kind": "modbus-tcp", "host": "127.0.0.1", "port": 502},
        "address": "1",
    }
    (installation,) = meter["installations"]
    assert installation["start_index"] == {"value": "10.5", "unit": "m3"}
    assert (installation["installed_at"], installation["removed_at"]) == ("2026-01-01T00:00:00.000Z", None)
    assert installation["usage_point"]["address"] == "1 Hill <b>Road</b>"
    assert meter["latest"]["values"]["volume_standard"] == {"value": "1011.5", "unit": "m3"}


def test_an_unknown_installation_date_is_null_and_not_1970(world: World) -> None:
    assert world.get("/api/v1/meters/W-0001").json()["installations"][0]["installed_at"] is None


def test_a_meter_that_was_never_read_has_no_latest_and_no_zero(world: World) -> None:
    assert world.get("/api/v1/meters/E-0001").json()["latest"] is None
    answer = world.get("/api/v1/meters/E-0001/latest")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no reading of meter 'E-0001'")
    answer = world.get("/api/v1/meters/nobody/latest")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no meter 'nobody'")


def test_latest_of_one_meter_has_units_all_times_flags_in_words_and_its_age(world: World) -> None:
    assert world.get("/api/v1/meters/G-0001/latest").json() == {
        "meter": "G-0001",
        "read_at": at(23),
        "meter_time": "2026-03-01T22:59:58.000Z",
        "received_at": "2026-03-01T23:00:01.000Z",
        "values": {
            "volume_standard": {"value": "1011.5", "unit": "m3"},
            "pressure": {"value": "101.325", "unit": "kPa"},
        },
        "quality": "valid",
        "reason": "",
        "source": "poll",
        "flags": ["valve_closed", "low_battery", "bit_9"],
        "age_s": 3600,
    }


def test_readings_come_oldest_first_from_the_first_moment_to_before_the_last(world: World) -> None:
    answer = world.get(f"/api/v1/meters/G-0001/readings?from={at(2)}&to={at(4)}").json()
    assert [(row["read_at"], row["values"]["volume_standard"]["value"]) for row in answer["items"]] == [
        (at(2), "1001"),
        (at(3), "1001.5"),
    ]
    assert answer["next_cursor"] is None


def test_a_plus_that_the_address_turned_into_a_space_is_still_an_offset(world: World) -> None:
    east = world.get("/api/v1/meters/G-0001/readings?from=2026-03-01T10:00:00+08:00&to=2026-03-01T03:00:00Z")
    assert [row["read_at"] for row in east.json()["items"]] == [at(2)]


def test_quantity_picks_readings_and_may_stand_twice(world: World) -> None:
    one = world.get("/api/v1/meters/G-0001/readings?limit=1&quantity=pressure").json()
    assert list(one["items"][0]["values"]) == ["pressure"]
    two = world.get("/api/v1/meters/G-0001/readings?limit=1&quantity=pressure&quantity=volume_standard").json()
    assert list(two["items"][0]["values"]) == ["volume_standard", "pressure"]
    assert world.get("/api/v1/meters/G-0001/readings?quantity=flow").json()["items"] == []


def test_pages_of_readings_neither_repeat_nor_skip_when_late_rows_arrive(world: World) -> None:
    seen: list[str] = []
    cursor = ""
    for page in range(3):
        answer = world.get(f"/api/v1/meters/G-0001/readings?limit=10{cursor}").json()
        seen += [row["read_at"] for row in answer["items"]]
        if page == 0:  # a late row before the cursor, and one behind everything
            early = gas_reading(0)
            early.read_at = T0 + 1
            write_readings(world.folder / "readings.db", [early, gas_reading(24)])
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == [at(hour) for hour in range(25)]
    assert answer["next_cursor"] is None


def test_readings_stream_as_json_lines_over_many_pages(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    write_readings(tmp_path / "readings.db", [gas_reading(hour) for hour in range(2500)])
    answer = world.get("/api/v1/meters/G-0001/readings?format=ndjson")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [row["values"]["volume_standard"]["value"] for row in rows[998:1002]] == [
        "1499",
        "1499.5",
        "1500",
        "1500.5",
    ]
    assert len({row["read_at"] for row in rows}) == len(rows) == 2500
    world.close()


def test_readings_as_csv_have_one_line_per_quantity(world: World) -> None:
    answer = world.get(f"/api/v1/meters/G-0001/readings?to={at(1)}", headers={"accept": "text/csv"})
    assert answer.headers["content-disposition"] == 'attachment; filename="readings.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(row["quantity"], row["value"], row["unit"]) for row in rows] == [
        ("volume_standard", "1000", "m3"),
        ("pressure", "101.325", "kPa"),
    ]
    assert (rows[0]["meter"], rows[0]["read_at"], rows[0]["received_at"]) == (
        "G-0001",
        at(0),
        "2026-03-01T00:00:01.000Z",
    )


@pytest.mark.parametrize(
    ("query", "name", "problem"),
    [
        ("from=2026-03-01T00:00:00", "from", "must be a time with offset"),
        ("from=2026-03-01", "from", "must be a time with offset"),
        ("from=1772323200", "from", "must be a time with offset"),
        ("from=2026-02-30T00:00:00Z", "from", "no such date or time"),
        ("from=1969-12-31T23:59:59Z", "from", "must lie between 1970 and 9999"),
        ("from=9999-12-31T23:59:59-12:00", "from", "must lie between 1970 and 9999"),
        ("from=0001-01-01T00:00:00%2B14:00", "from", "must lie between 1970 and 9999"),
        ("from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", "to", "lies before `from`"),
        ("limit=0", "limit", "must be 1 or more"),
        ("limit=1001", "limit", "must be 1000 or less"),
        ("limit=ten", "limit", "must be a whole number"),
        ("limit=99999999999999999999999999", "limit", "must be 1000 or less"),
        ("limit=1&limit=2", "limit", "stands twice"),
        ("quantity=volum", "quantity", 'did you mean "volume"?'),
        ("fron=2026-03-01T00:00:00Z", "fron", 'unknown parameter; did you mean "from"?'),
        ("format=xml", "format", "allowed: json, ndjson, csv"),
        ("format=csv&limit=5", "format", "a stream gives the whole range"),
        ("cursor=bm90", "cursor", "is not a cursor of this list"),
        ("cursor=%27", "cursor", "must match"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(world: World, query: str, name: str, problem: str) -> None:
    answer = world.get(f"/api/v1/meters/G-0001/readings?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (fault,) = answer.json()["errors"]
    assert fault["name"] == name
    assert problem in fault["problem"]


def test_all_wrong_parameters_are_named_at_once(world: World) -> None:
    errors = world.get("/api/v1/meters?limt=5&medium=gaz&search=%00").json()["errors"]
    assert {fault["name"]: fault["problem"] for fault in errors} == {
        "limt": 'unknown parameter; did you mean "limit"?',
        "medium": 'allowed: gas, water, electricity, heat; did you mean "gas"?',
        "search": "control characters and bytes that are not UTF-8 are refused",
    }


def test_a_cursor_of_another_list_is_refused(world: World) -> None:
    cursor = world.get("/api/v1/meters?limit=1").json()["next_cursor"]
    assert world.get(f"/api/v1/latest?cursor={cursor}").status_code == 422
    assert world.get(f"/api/v1/meters/G-0001/readings?cursor={cursor}").status_code == 422


def test_closings_give_the_exact_index_of_each_local_day(world: World) -> None:
    first = world.get("/api/v1/meters/G-0001/closings?limit=2").json()
    assert [(row["day"], row["index"]) for row in first["items"]] == [
        ("2026-03-01", {"value": "10.000001", "unit": "m3"}),
        ("2026-03-02", {"value": "20.000002", "unit": "m3"}),
    ]
    rest = world.get(f"/api/v1/meters/G-0001/closings?limit=2&cursor={first['next_cursor']}").json()
    assert [row["day"] for row in rest["items"]] == ["2026-03-03"]
    ranged = world.get("/api/v1/meters/G-0001/closings?from=2026-03-02&to=2026-03-02").json()
    assert [row["read_at"] for row in ranged["items"]] == [at(47)]
    assert world.get("/api/v1/meters/nobody/closings").status_code == 404
    assert world.get("/api/v1/meters/G-0001/closings?from=2026-3-1").status_code == 422


def test_readings_of_a_meter_that_the_registry_does_not_know_are_a_404(world: World) -> None:
    assert world.get("/api/v1/meters/nobody/readings").status_code == 404


def test_a_store_that_is_not_there_is_a_503_in_every_format_and_not_half_a_file(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    (tmp_path / "readings.db").rename(tmp_path / "away.db")
    for fmt in ("json", "ndjson", "csv"):
        answer = world.get(f"/api/v1/meters/G-0001/readings?format={fmt}")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:metergate:problem:store-unavailable")
        assert answer.headers["retry-after"] == "5"
    world.close()
