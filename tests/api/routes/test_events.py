"""Events and quarantine."""

from __future__ import annotations

import base64

import pytest

from registry import ledger
from tests.api.world import T0, World, at


def test_events_come_newest_arrival_first_with_their_cause(world: World) -> None:
    items = world.get("/api/v1/events").json()["items"]
    assert [(e["kind"], e["gateway"], e["meter"], e["count"]) for e in items] == [
        ("security", "gw-9", "", 1),
        ("read_failed", "gw-1", "W-0001", 3),
        ("read_failed", "gw-1", "W-0001", 2),
        ("read_failed", "gw-1", "W-0001", 1),
    ]
    assert (items[3]["at"], items[3]["cause"], items[3]["text"]) == (at(1), "timeout", "no answer")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("kind=read_failed", 3),
        ("kind=read_failed&gateway=gw-9", 0),
        ("meter=W-0001", 3),
        ("cause=timeout", 3),
        (f"from={at(2)}", 3),
        (f"from={at(2)}&to={at(3)}", 1),
        ("gateway=%27%20OR%201%3D1--", 0),
    ],
)
def test_filters_narrow_the_events(world: World, query: str, count: int) -> None:
    assert len(world.get(f"/api/v1/events?{query}").json()["items"]) == count


def test_new_events_do_not_move_a_page_that_is_being_read(world: World) -> None:
    first = world.get("/api/v1/events?limit=2").json()
    with world.database.begin() as connection:
        ledger.add_events(connection, [ledger.EventRow("gw-1", "e", 9, "new", T0, T0, "read_recovered")])
    rest = world.get(f"/api/v1/events?limit=2&cursor={first['next_cursor']}").json()
    ids = [event["id"] for event in first["items"] + rest["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4


def test_quarantine_shows_reason_and_bytes_as_text_when_they_are_text(world: World) -> None:
    binary, text = world.get("/api/v1/quarantine").json()["items"]
    assert (text["reason"], text["meter"], text["raw"]["text"]) == ("unknown_meter", "X", '{"meter":"X"}')
    assert bytes.fromhex(text["raw"]["hex"]) == base64.b64decode(text["raw"]["base64"]) == b'{"meter":"X"}'
    assert (text["raw"]["size"], text["raw"]["truncated"]) == (13, False)
    assert (binary["reason"], binary["raw"]["text"], binary["raw"]["size"]) == ("not_json", None, 80_000)
    assert binary["raw"]["hex"] == "00ff" * 128
    assert binary["raw"]["truncated"] is True


def test_one_quarantined_row_shows_more_and_all_its_bytes_can_be_saved(world: World) -> None:
    number = world.get("/api/v1/quarantine?reason=not_json").json()["items"][0]["id"]
    one = world.get(f"/api/v1/quarantine/{number}").json()
    assert (len(one["raw"]["hex"]), one["raw"]["truncated"]) == (2 * 65536, True)
    raw = world.get(f"/api/v1/quarantine/{number}/raw")
    assert raw.content == b"\x00\xff" * 40_000
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.headers["content-disposition"] == f'attachment; filename="quarantine-{number}.bin"'


def test_a_list_of_large_rows_stays_small(world: World) -> None:
    assert len(world.get("/api/v1/quarantine").content) < 5000


@pytest.mark.parametrize(("number", "status"), [("999", 404), ("0", 422), ("-1", 422), ("x", 422), (str(2**63), 422)])
def test_a_number_that_names_nothing_is_refused(world: World, number: str, status: int) -> None:
    assert world.get(f"/api/v1/quarantine/{number}").status_code == status
    assert world.get(f"/api/v1/quarantine/{number}/raw").status_code == status
