"""Work orders that rules open, and what comes back from the field to the rules."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from api.orders.service import Orders
from api.orders.settings import OrderSettings
from registry import findings
from registry.roles import Role
from tests.api.findings_world import leak
from tests.api.routes.order_calls import BASE, GOOD, NOW, get, step
from tests.api.world import HOUR, World, at, make_key

# --- back to the rules ---------------------------------------------------------------------------------------------


def clerk(world: World) -> Orders:
    return Orders(OrderSettings(inspections="off"), world.database, world.clock)


def test_a_leak_found_true_and_repaired_is_cleared_and_counts_for_its_rule(world: World) -> None:
    clerk(world).turn()
    order = world.get(f"{BASE}?type=leak_visit").json()["items"][0]
    assert (order["priority"], order["state"], order["place"]) == ("urgent", "accepted", "UP-1")
    assert world.get(f"{BASE}/{order['id']}").json()["evidence"]["findings"][0]["numbers"] == {
        "held_per_h": 4.25,
        "held_before_per_h": 0.6,
        "share_of_qmax": 0.708333,
    }
    step(world, order["id"], "dispatch", {"assignee": "crew-1"})
    step(world, order["id"], "receipts", GOOD)
    finding = world.get("/api/v1/findings/1").json()
    assert (finding["state"], finding["open"], finding["cleared_at"]) == ("NORM", False, at(24))
    assert finding["history"][-1]["note"] == f"work order {order['id']}: found and repaired"
    (line,) = world.get("/api/v1/rules/precision").json()["items"]
    assert (line["rule"], line["month"], line["precision"], line["true"]) == ("burst", "2026-03", 1.0, 1)
    # the rules repeat their past: nothing comes back; a newer word of theirs does
    with world.database.begin() as connection:
        findings.record(connection, [leak(NOW)], now_ms=NOW + HOUR)
    assert not world.get("/api/v1/findings/1").json()["open"]
    with world.database.begin() as connection:
        findings.record(connection, [replace(leak(NOW), updated_at=NOW + HOUR)], now_ms=NOW + HOUR)
    assert world.get("/api/v1/findings/1").json()["open"]


def test_false_labels_and_what_nobody_looked_at(world: World) -> None:
    clerk(world).turn()
    number = world.get(f"{BASE}?type=leak_visit").json()["items"][0]["id"]
    step(world, number, "dispatch", {"assignee": "crew-1"})
    step(world, number, "receipts", {**GOOD, "label": "false"})
    assert world.get("/api/v1/findings/1").json()["open"]  # what was wrong, the rules must let go of
    (line,) = world.get("/api/v1/rules/precision?rule=burst").json()["items"]
    assert (line["precision"], line["false"]) == (0.0, 1)
    south = make_key(world.database, *Role, areas=frozenset({"south"}))
    assert get(world, "/api/v1/rules/precision", south).json()["items"] == []


def test_a_city_wide_power_cut_is_one_order_per_cause(world: World) -> None:
    """10,000 meters behind 20 gateways fall silent in one minute: 20 orders, and the one that stood there before."""
    base = replace(leak(NOW), severity="major", evidence={})
    facts = []
    for gateway in range(20):
        parent = f"outage:gateway:g-{gateway}:1"
        where: dict[str, Any] = {"gateway": f"g-{gateway}", "bus": "", "detected_at": NOW, "updated_at": NOW}
        facts.append(
            replace(base, key=parent, usage_point="", meter="", kind="info_outage", rule="outage_gateway", **where)
        )
        facts += [
            replace(
                base, key=f"{gateway}-{n}:comms_loss", usage_point=f"P-{gateway}-{n}", meter=f"M-{gateway}-{n}",
                kind="comms_loss", rule="comms_loss", parent_key=parent, **where,
            )
            for n in range(500)
        ]  # fmt: skip
    assert len(facts) == 10_020
    with world.database.begin() as connection:
        findings.record(connection, facts, now_ms=NOW)
    done = clerk(world).turn()
    orders = world.get(f"{BASE}?type=communication_repair&format=ndjson").text.splitlines()
    assert sorted(json.loads(line)["place"] for line in orders) == sorted(
        ["gateway:gw-2", *(f"gateway:g-{n}" for n in range(20))]
    )
    assert done.opened == 22  # with the leak at UP-1
    assert clerk(world).turn().opened == 0


def test_the_order_for_a_gateway_says_what_it_cannot_show(world: World) -> None:
    clerk(world).turn()
    (order,) = world.get(f"{BASE}?place=gateway:gw-2").json()["items"]
    evidence = world.get(f"{BASE}/{order['id']}").json()["evidence"]
    assert (order["usage_point"], evidence["series"], evidence["readings"]) == (None, None, [])
    assert "readings: this order is about no single meter" in evidence["missing"]
    assert evidence["findings"][0]["rule"] == "outage_gateway"
