"""Webhooks and notification rules over the API: made, changed, tried, sent again; and everything that is refused."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.outbound import outbox
from api.outbound.outbox import Put
from api.outbound.settings import OutboundSettings
from registry.models_access import AuditRecord
from registry.models_outbound import Webhook, WebhookDelivery
from registry.roles import Role
from tests.api.world import World, make_key

URL = "https://8.8.8.8/hook?key=k1"  # a number: registering asks no name server
RULE = {"name": "duty", "steps": [{"after_min": 0, "to": ["mail:duty@example.org"]}]}


def post(world: World, address: str, body: Any = None, **headers: str) -> httpx.Response:
    return world.request("POST", f"/api/v1/{address}", json=body, headers=headers)


def make(world: World, **more: Any) -> Any:
    answer = post(world, "webhooks", {"name": "cmms", "url": URL, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def actions(world: World) -> list[str]:
    with world.database.read() as c:
        return list(c.execute(sa.select(AuditRecord.action).order_by(AuditRecord.number)).scalars())


def test_the_secret_is_shown_once_and_the_key_in_the_address_never(world: World) -> None:
    made = make(world)
    assert made["secret"].startswith("whsec_")
    for address in ("webhooks", f"webhooks/{made['id']}", "audit"):
        text = world.get(f"/api/v1/{address}").text
        assert made["secret"] not in text
        assert "k1" not in text
    shown = world.get("/api/v1/webhooks").json()["items"]
    assert [(hook["url"], hook["kinds"], hook["template"]) for hook in shown] == [
        ("https://8.8.8.8/hook?…", ["*"], "metergate")
    ]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1/", "inside the house"),
        ("https://169.254.169.254/latest/meta-data", "inside the house"),
        ("https://[::ffff:10.0.0.1]/", "inside the house"),
        ("https://localhost/", "inside the house"),
        ("http://example.org/", "http is allowed only"),
        ("javascript:alert(1)", "begins with https"),
    ],
)
def test_a_webhook_into_the_house_is_refused_audited_and_nothing_changes(world: World, url: str, why: str) -> None:
    answer = post(world, "webhooks", {"name": "x", "url": url})
    assert answer.status_code == 422
    assert why in answer.json()["detail"]
    assert world.get("/api/v1/webhooks").json()["items"] == []
    assert actions(world)[-1] == "webhook.refuse"


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x"},
        {"name": "", "url": URL},
        {"name": "a\nb", "url": URL},
        {"name": "x" * 121, "url": URL},
        {"name": "x", "url": URL, "kinds": ["finding.open"]},
        {"name": "x", "url": URL, "template": "sap"},
        {"name": "x", "url": URL, "secret": "whsec_mine"},
        {"name": "x", "url": URL, "enabled": "yes"},
        [],
    ],
)
def test_bodies_that_cannot_be_used_are_refused(world: World, body: Any) -> None:
    assert post(world, "webhooks", body).status_code == 422


def test_two_people_do_not_overwrite_each_other(world: World) -> None:
    make(world)
    seen = world.get("/api/v1/webhooks/1").headers["etag"]
    change = {"json": {"kinds": ["finding.*"]}, "headers": {"if-match": seen}}
    assert world.request("PATCH", "/api/v1/webhooks/1", **change).json()["kinds"] == ["finding.*"]
    late = world.request("PATCH", "/api/v1/webhooks/1", **change)
    assert (late.status_code, late.json()["type"]) == (412, "urn:metergate:problem:changed-meanwhile")
    assert world.request("DELETE", "/api/v1/webhooks/1", headers={"if-match": seen}).status_code == 412
    assert world.request("PATCH", "/api/v1/webhooks/1", json={"url": "https://10.0.0.1/"}).status_code == 422


def test_a_name_is_given_once(world: World) -> None:
    make(world)
    assert "already" in post(world, "webhooks", {"name": "cmms", "url": URL}).json()["detail"]


def test_a_test_is_put_into_the_outbox(world: World) -> None:
    make(world)
    answer = post(world, "webhooks/1/test")
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["kind"]) == ("waiting", "test")
    body = json.loads(answer.json()["payload"])
    assert (body["type"], body["data"]["reason"].split(":")[0]) == ("test", "test by key")
    assert world.get("/api/v1/webhooks/1").json()["waiting"] == 1


def deliver(world: World, count: int, **values: Any) -> list[str]:
    """Put deliveries of webhook 1 into the outbox, one a second, and set their columns."""
    names = []
    with world.database.begin() as c:
        for number in range(count):
            item = Put(f"k{number}", "webhook", 1, "", "finding.opened", "north", "", "{}")
            names += outbox.put(c, [item], now_ms=world.clock.now_ms() + 1000 * number)
        if values:
            c.execute(sa.update(WebhookDelivery).values(**values))
    return names


def test_deliveries_come_in_pages_newest_first_and_by_state(world: World) -> None:
    make(world)
    names = deliver(world, 3)
    first = world.get("/api/v1/webhook-deliveries?limit=2").json()
    assert [item["id"] for item in first["items"]] == [names[2], names[1]]
    rest = world.get(f"/api/v1/webhook-deliveries?limit=2&cursor={first['next_cursor']}").json()
    assert [item["id"] for item in rest["items"]] == [names[0]]
    assert world.get("/api/v1/webhook-deliveries?state=dead").json()["items"] == []
    assert world.get("/api/v1/webhook-deliveries?state=lost").status_code == 422
    assert world.get("/api/v1/webhook-deliveries/msg_" + "0" * 32).status_code == 404
    assert world.get("/api/v1/webhook-deliveries/x").status_code == 422


def test_replay_of_one_and_of_all_dead_ones(world: World) -> None:
    make(world)
    names = deliver(world, 3, state="dead", attempts=12)
    one = post(world, f"webhook-deliveries/{names[0]}/replay").json()
    assert (one["id"], one["state"], one["attempts"]) == (names[0], "waiting", 0)
    assert post(world, f"webhook-deliveries/{names[0]}/replay").status_code == 409
    assert post(world, "webhooks/1/replay").json() == {"replayed": 2}
    assert actions(world)[-2:] == ["webhook_delivery.replay", "webhook_delivery.replay_all"]
    with world.database.begin() as c:
        c.execute(sa.update(Webhook).values(enabled=False))
        c.execute(sa.update(WebhookDelivery).values(state="dead"))
    assert post(world, f"webhook-deliveries/{names[0]}/replay").status_code == 409
    assert post(world, "webhooks/1/replay").status_code == 409
    assert post(world, "webhooks/1/test").status_code == 409


def test_a_rule_is_made_changed_and_removed(world: World) -> None:
    made = post(world, "notification-rules", RULE)
    assert made.status_code == 201
    assert made.json()["events"] == ["finding.opened", "finding.reopened", "house.silent", "house.returned"]
    changed = world.request("PATCH", "/api/v1/notification-rules/1", json={"quiet": "22:00-07:00"})
    assert (changed.json()["quiet"], changed.headers["etag"]) == ("22:00-07:00", '"v2"')
    assert len(world.get("/api/v1/notification-rules").json()["items"]) == 1
    assert world.request("DELETE", "/api/v1/notification-rules/1").status_code == 204
    assert world.get("/api/v1/notification-rules/1").status_code == 404
    assert actions(world)[-3:] == [
        "notification_rule.create",
        "notification_rule.change",
        "notification_rule.delete",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"steps": []},
        {"steps": [{"after_min": 5, "to": ["mail:a@b.cn"]}]},
        {"steps": [{"after_min": 0, "to": ["mail:a@b.cn"]}, {"after_min": 0, "to": ["mail:a@b.cn"]}]},
        {"steps": [{"after_min": 0, "to": []}]},
        {"steps": [{"after_min": 0, "to": ["mail:a@b.cn\r\nBcc: x@y"]}]},
        {"steps": [{"after_min": 0, "to": ["mail:no address"]}]},
        {"steps": [{"after_min": 0, "to": ["webhook:99"]}]},
        {"steps": [{"after_min": 0, "to": ["pager:1"]}]},
        {"quiet": "10-11"},
        {"tz": "Mars/Base"},
        {"events": []},
        {"events": ["finding.lost"]},
        {"min_priority": "huge"},
        {"order_types": ["repair"]},
        {"bundle_s": -1},
        {"bundle_s": 1.5},
    ],
)
def test_rules_that_cannot_be_used_are_refused(world: World, change: Any) -> None:
    assert post(world, "notification-rules", {**RULE, **change}).status_code == 422
    assert world.get("/api/v1/notification-rules").json()["items"] == []


def test_a_webhook_that_a_rule_names_stays(world: World) -> None:
    make(world)
    post(world, "notification-rules", {**RULE, "steps": [{"after_min": 0, "to": ["webhook:1"]}]})
    answer = world.request("DELETE", "/api/v1/webhooks/1")
    assert (answer.status_code, "rule 1" in answer.json()["detail"]) == (409, True)
    world.request("DELETE", "/api/v1/notification-rules/1")
    assert world.request("DELETE", "/api/v1/webhooks/1").status_code == 204


def test_whoever_is_limited_to_districts_sees_and_makes_only_what_is(world: World) -> None:
    make(world)
    deliver(world, 1)
    key = make_key(world.database, Role.SUPERVISOR, areas=frozenset({"south"}))
    mine = {"authorization": f"Bearer {key}"}
    assert world.get("/api/v1/webhooks", headers=mine).json()["items"] == []
    assert world.get("/api/v1/webhooks/1", headers=mine).status_code == 404
    assert world.get("/api/v1/webhook-deliveries", headers=mine).json()["items"] == []
    for districts in ([], ["north"], ["south", "north"]):
        body = {"name": "x", "url": URL, "districts": districts}
        assert post(world, "webhooks", body, **mine).status_code == 422
    body = {"name": "x", "url": URL, "districts": ["south"]}
    assert post(world, "webhooks", body, **mine).status_code == 201
    wide = world.request("PATCH", "/api/v1/webhooks/2", json={"districts": []}, headers=mine)
    assert wide.status_code == 422
    rule = {**RULE, "districts": ["south"], "steps": [{"after_min": 0, "to": ["webhook:1"]}]}
    assert post(world, "notification-rules", rule, **mine).status_code == 422  # a webhook that he does not see


def test_no_more_webhooks_than_the_settings_allow(world: World) -> None:
    world.app.state.house.outbound = OutboundSettings(max_webhooks=1)
    make(world)
    assert "there are 1 already" in post(world, "webhooks", {"name": "b", "url": URL}).json()["detail"]
