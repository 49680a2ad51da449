"""Gateways and their ledger. The positions of gw-1 are worked out in `tests.api.world`."""

from __future__ import annotations

from registry import ledger
from tests.api.world import T0, World


def test_every_gateway_is_listed_also_one_that_only_sends_and_one_that_was_never_heard(world: World) -> None:
    items = world.get("/api/v1/gateways").json()["items"]
    assert [(g["id"], g["registered"], g["online"], g["status"], g["meters"]) for g in items] == [
        ("gw-1", True, True, "ok", 2),
        ("gw-2", True, False, "never_seen", 1),
        ("gw-9", False, False, "offline", 0),
    ]


def test_the_ledger_adds_up_over_all_epochs(world: World) -> None:
    gateway = world.get("/api/v1/gateways").json()["items"][0]
    counted = {
        name: gateway[name]
        for name in ("produced", "committed", "stored", "duplicates", "quarantined", "events", "gone", "missing")
    }
    # 25 + 6 made; 1…10 and 13…20 committed, and 1…6 without the one that is gone; 11 and 12 are the hole
    assert counted == {
        "produced": 31,
        "committed": 23,
        "stored": 20,
        "duplicates": 3,
        "quarantined": 2,
        "events": 1,
        "gone": 1,
        "missing": 2,
    }
    assert gateway["waiting"] == 7
    assert gateway["oldest_waiting_at"] == "2026-03-01T23:59:00.000Z"
    assert gateway["last_message_at"] == "2026-03-01T23:59:58.000Z"
    assert gateway["last_health_at"] == "2026-03-01T23:59:59.000Z"


def test_one_gateway_shows_each_epoch_with_its_holes_newest_first(world: World) -> None:
    gateway = world.get("/api/v1/gateways/gw-1").json()
    newest, older = gateway["epochs"]
    assert newest == {
        "epoch": "00ff00ff",
        "produced": 25,
        "acknowledged_upto": 20,
        "committed": 18,
        "stored": 15,
        "duplicates": 3,
        "quarantined": 2,
        "events": 1,
        "gone": 0,
        "waiting": 7,
        "missing": [{"first": 11, "last": 12}],
        "oldest_held": 5,
        "last_message_at": "2026-03-01T23:59:58.000Z",
    }
    assert (older["epoch"], older["committed"], older["gone"], older["acknowledged_upto"]) == ("00aa00aa", 5, 1, 6)
    assert (older["waiting"], older["missing"]) == (0, [])
    assert gateway["health"]["counters"] == {"polls": 40, "polls_failed_total": 2, "bad name": 3}


def test_a_gateway_nobody_knows_is_a_404(world: World) -> None:
    assert world.get("/api/v1/gateways/gw-7").status_code == 404


def test_a_gateway_that_falls_silent_goes_offline_by_itself(world: World) -> None:
    world.clock.pause(61)
    gateway = world.get("/api/v1/gateways/gw-1").json()
    assert (gateway["online"], gateway["status"]) == (False, "silent")
    assert gateway["status_reason"] == "not heard since 2026-03-01T23:59:59.000Z"


def test_a_full_outbox_is_the_gateways_state(world: World) -> None:
    health = {"outbox": "full", "outbox_reason": "No space left on device", "waiting": "many", "oldest_at": -1}
    row = ledger.StatusRow("gw-1", health_at=T0 + 86_400_000, health=health)
    with world.database.begin() as connection:
        ledger.save_gateway_status(connection, [row])
    gateway = world.get("/api/v1/gateways/gw-1").json()
    assert (gateway["status"], gateway["status_reason"]) == ("outbox_full", "No space left on device")
    # what makes no sense in its word is replaced by what the ledger knows
    assert (gateway["waiting"], gateway["oldest_waiting_at"]) == (7, None)
    assert {check["name"]: check["status"] for check in world.get("/readyz").json()["checks"]}[
        "gateways"
    ] == "degraded"


def test_the_list_comes_in_pages(world: World) -> None:
    first = world.get("/api/v1/gateways?limit=2").json()
    rest = world.get(f"/api/v1/gateways?limit=2&cursor={first['next_cursor']}").json()
    assert [g["id"] for g in first["items"] + rest["items"]] == ["gw-1", "gw-2", "gw-9"]
