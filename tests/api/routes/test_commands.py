"""Commands over the API: ordered once, seen only where one may look, closed by what the gateway said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.command_office import CommandOffice
from api.command_settings import CommandSettings
from api.dispatch import Dispatcher
from metering.messages import Command, decode_command, told
from metering.mqtt import BrokerSettings
from metering.signing import load_verifier, make_key
from registry import commands, ledger
from registry.models import Gateway
from registry.models_access import AuditRecord, CommandRecord
from registry.roles import Role
from tests.api.world import COMMAND, T0, World, make_world
from tests.api.world import make_key as make_api_key

NOW = T0 + 24 * 3_600_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path)
    made.app.state.house.command_office = _office(tmp_path)
    with made.database.begin() as connection:
        connection.execute(sa.update(Gateway).where(Gateway.id == "gw-1").values(district="north"))
    yield made
    made.close()


def _office(folder: Path, **settings: object) -> CommandOffice:
    key = make_key(folder / "office.key")
    facts = CommandSettings.model_validate({"signing_key": folder / "office.key", **settings}, strict=False)
    return CommandOffice(facts, key, frozenset({"example-water", "example-gas"}), BrokerSettings())


def _signed(world: World, nonce: str) -> Command:
    with world.database.read() as connection:
        row = commands.find(connection, nonce)
    assert row is not None
    body = load_verifier([world.folder / "office.pub"]).open("command", row["payload"].encode())
    return decode_command(body)


def _say(world: World, nonce: str, cause: str, sentence: str, *, meter: str = "", gateway: str = "gw-1") -> None:
    with world.database.begin() as connection:
        seq = int(connection.execute(sa.text("select count(*) from event")).scalar_one()) + 1000
        text = told(nonce, sentence)
        row = ledger.EventRow(
            gateway, "00ff00ff", seq, f"d{seq}", NOW + 1000, NOW + 1100, "command_result", meter, cause, 1, text
        )
        ledger.add_events(connection, [row])


def _settle(world: World, at: int = NOW + 2000) -> None:
    with world.database.begin() as connection:
        commands.settle(connection, commands.unsettled(connection, at))


def test_read_now_is_signed_waits_and_is_audited(world: World) -> None:
    answer = world.request("POST", "/api/v1/meters/G-0001/read-now")
    assert answer.status_code == 202
    made = answer.json()
    assert (made["state"], made["gateway"], made["meter"], made["name"]) == ("waiting", "gw-1", "G-0001", "read-now")
    assert answer.headers["location"] == f"/api/v1/commands/{made['nonce']}"
    command = _signed(world, made["nonce"])
    assert (command.gateway, command.name, command.args) == ("gw-1", "read-now", {"meters": ["G-0001"]})
    assert (command.issued_at, command.deadline) == (NOW, NOW + 300_000)
    with world.database.read() as connection:
        row = connection.execute(sa.select(AuditRecord).order_by(AuditRecord.number.desc())).first()
    assert row is not None
    with world.database.read() as connection:
        found = connection.execute(
            sa.select(AuditRecord.action).where(AuditRecord.object_id == made["nonce"])
        ).scalars()
        assert list(found) == ["command.read-now"]


def test_the_same_key_again_returns_the_same_command_and_another_order_under_it_is_refused(world: World) -> None:
    header = {"headers": {"idempotency-key": "once"}}
    first = world.request("POST", "/api/v1/meters/G-0001/read-now", **header).json()
    again = world.request("POST", "/api/v1/meters/G-0001/read-now", **header).json()
    assert first == again
    other = world.request("POST", "/api/v1/meters/W-0001/read-now", **header)
    assert other.status_code == 409
    with world.database.read() as connection:
        rows = connection.execute(sa.select(CommandRecord.nonce).where(CommandRecord.issued_at == NOW)).all()
        assert len(rows) == 1


def test_set_clock_carries_the_meters_own_time_zone(world: World) -> None:
    with world.database.begin() as connection:
        connection.execute(sa.text("update usage_point set tz = 'Asia/Shanghai' where id = 'UP-2'"))
    made = world.request("POST", "/api/v1/gateways/gw-1/set-clock", json={"bus": "tcp-1"}).json()["items"]
    found = [_signed(world, one["nonce"]).args for one in made]
    assert found == [
        {"meters": ["G-0001"], "utc_offset_s": 0},
        {"meters": ["W-0001"], "utc_offset_s": 28_800},
    ]
    one = world.request("POST", "/api/v1/meters/W-0001/set-clock").json()
    assert _signed(world, one["nonce"]).args == {"meters": ["W-0001"], "utc_offset_s": 28_800}
    nothing = world.request("POST", "/api/v1/gateways/gw-1/set-clock", json={"bus": "other"})
    assert (nothing.status_code, nothing.json()["type"]) == (409, "urn:metergate:problem:nothing-to-set")


def test_the_gateways_result_closes_the_command_and_only_its_own(world: World) -> None:
    nonce = world.request("POST", "/api/v1/meters/G-0001/read-now").json()["nonce"]
    _say(world, nonce, "done", "a lie", gateway="gw-2")
    _settle(world)
    assert world.get(f"/api/v1/commands/{nonce}").json()["state"] == "waiting"
    _say(world, nonce, "ok", "volume 1 m3", meter="G-0001")
    _say(world, nonce, "unknown", "started again")
    _say(world, nonce, "done", "1 of 1 meters read")
    _settle(world)
    shown = world.get(f"/api/v1/commands/{nonce}").json()
    assert (shown["state"], shown["result"]) == ("done", "1 of 1 meters read")
    assert [(one["meter"], one["cause"], one["sentence"]) for one in shown["meters"]] == [
        ("G-0001", "ok", "volume 1 m3")
    ]


def test_a_deadline_without_a_result_expires_and_a_late_result_still_counts(world: World) -> None:
    nonce = world.request("POST", "/api/v1/meters/G-0001/read-now").json()["nonce"]
    _settle(world, NOW + 299_000)
    assert world.get(f"/api/v1/commands/{nonce}").json()["state"] == "waiting"
    _settle(world, NOW + 301_000)
    assert world.get(f"/api/v1/commands/{nonce}").json()["state"] == "expired"
    _say(world, nonce, "done", "1 of 1 meters read")
    _settle(world, NOW + 400_000)
    assert world.get(f"/api/v1/commands/{nonce}").json()["state"] == "done"


def test_commands_of_another_area_are_not_there(world: World) -> None:
    nonce = world.request("POST", "/api/v1/meters/G-0001/read-now").json()["nonce"]
    south = make_api_key(world.database, Role.ENGINEER, areas=frozenset({"south"}))
    shown = {"headers": {"authorization": f"Bearer {south}"}}
    assert world.get(f"/api/v1/commands/{nonce}", **shown).status_code == 404
    assert world.get("/api/v1/commands", **shown).json()["items"] == []
    assert world.request("POST", "/api/v1/meters/G-0001/read-now", **shown).status_code == 404
    assert world.request("POST", "/api/v1/gateways/gw-1/set-clock", **shown).status_code == 404
    assert world.request("POST", "/api/v1/meters/W-0001/read-now", **shown).status_code == 202
    made = [one["nonce"] for one in world.get("/api/v1/commands").json()["items"]]
    assert len([one for one in made if one != COMMAND]) == 2


def test_the_list_has_pages_newest_first_and_filters(world: World) -> None:
    made = [world.request("POST", "/api/v1/meters/G-0001/read-now").json()["nonce"] for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = world.get(f"/api/v1/commands?limit=2{cursor}").json()
        seen += [one["nonce"] for one in page["items"] if one["nonce"] != COMMAND]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(seen) == sorted(made)
    assert len(seen) == 5
    assert world.get("/api/v1/commands?state=expired").json()["items"] == []
    mine = world.get("/api/v1/commands?meter=G-0001&gateway=gw-1").json()["items"]
    assert {one["nonce"] for one in mine} - {COMMAND} == set(made)
    assert world.get("/api/v1/commands?meter=G-0009").json()["items"] == []


def test_an_api_without_a_key_says_so(world: World) -> None:
    world.app.state.house.command_office = None
    answer = world.request("POST", "/api/v1/meters/G-0001/read-now")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:metergate:problem:no-office")


def test_the_monthly_set_clock_is_ordered_once_for_each_gateway_and_spread(tmp_path: Path, world: World) -> None:
    """NOW is 2026-03-02 00:00 UTC. Two gateways over two hours: one at 0:00, one at 1:00."""
    folder = tmp_path / "second"
    folder.mkdir()
    office = _office(folder, set_clock_days=[2], set_clock_hour=0, set_clock_spread_h=2, set_clock_tz="UTC")
    dispatcher = Dispatcher(office, world.database, world.clock)

    def orders(at: int) -> list[str]:
        with world.database.begin() as connection:
            dispatcher.order_set_clocks(connection, at)
            rows = connection.execute(sa.select(CommandRecord.gateway_id).where(CommandRecord.name == "set-clock"))
            return sorted(row.gateway_id for row in rows)

    hour = 3_600_000
    assert orders(NOW) == ["gw-1"]
    assert orders(NOW + hour // 2) == ["gw-1"]
    assert orders(NOW + hour) == ["gw-1"]  # gw-2 has no meter that takes a time
    assert orders(NOW + 2 * hour) == ["gw-1"]
    assert orders(NOW + 31 * 24 * hour) == ["gw-1", "gw-1"]
