"""`metergate broker` on a real Mosquitto with TLS: who may say and hear what, and how a password is replaced."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from metergate.broker_access import FieldTopics, acl_text
from metering.errors import SettingsError
from metering.messages import part_of, topic
from registry.credentials import Login
from tests.guarded import Guarded, connected, metergate, problem, refused, until

LEAVES_OUT = ("up", "state", "health", "tap")
LEAVES_IN = ("ack", "cmd", "plan")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("guarded"))
    for name in ("gw-1", "gw-2", "ingest", "api", "office"):
        made.credential(name)
    with made.running():
        yield made


def of(house: Guarded, name: str) -> Path:
    return house.folder / f"{name}-0.credential"


def test_a_gateway_says_its_own_and_nothing_else(house: Guarded) -> None:
    async def scenario() -> None:
        async with connected(house.settings(of(house, "gw-1")), "a") as gateway:
            for leaf in LEAVES_OUT:
                assert await gateway.may(topic("gw-1", leaf)), leaf
                assert not await gateway.may(topic("gw-2", leaf)), leaf
                other_part = (part_of("gw-1") + 1) % 64
                assert not await gateway.may(f"mg/v1/{other_part}/gw-1/{leaf}")
            for leaf in LEAVES_IN:
                assert not await gateway.may(topic("gw-1", leaf)), leaf
            for name in ("mg/v1/1/notice", "x", "$SYS/broker/uptime", topic("gw-1.1", "up"), topic("gw-1", "up/x")):
                assert not await gateway.may(name), name

    asyncio.run(scenario())


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_gateway_hears_its_own_and_nobody_hears_what_it_may_not_say(house: Guarded, protocol: str) -> None:
    """With 3.1.1 the broker calls a refused publication a success; what counts is that nobody gets it."""

    async def scenario() -> None:
        ask = {"protocol": protocol}
        ups = "mg/v1/+/+/up"
        async with (
            connected(house.settings(of(house, "ingest"), **ask), "ingest", ups, "mg/v1/+/+/state") as ingest,
            connected(house.settings(of(house, "api"), **ask), "api", ups, "mg/v1/+/notice") as api,
            connected(house.settings(of(house, "gw-1"), **ask), "one", "#", topic("gw-2", "ack")) as one,
            connected(house.settings(of(house, "gw-2"), **ask), "two", "mg/v1/+/+/ack", "mg/v1/+/+/cmd") as two,
        ):
            await one.may(topic("gw-2", "up"))  # forged
            assert await one.may(topic("gw-1", "up"))
            assert await two.may(topic("gw-2", "up"))
            await until(lambda: len(ingest.heard) == 2)
            assert sorted(ingest.heard) == sorted([topic("gw-1", "up"), topic("gw-2", "up")])
            for leaf, sender in (("ack", ingest), ("cmd", api), ("plan", api)):
                for name in ("gw-1", "gw-2"):
                    assert await sender.may(topic(name, leaf))
            await ingest.may(topic("gw-1", "cmd"))  # ingest commands nobody
            await api.may(topic("gw-1", "up"))  # the API invents no readings
            assert await ingest.may("mg/v1/7/notice")
            await until(lambda: len(one.heard) >= 3 and len(two.heard) >= 2 and api.heard)
            assert await api.may(topic("gw-1", "plan"))  # a last word, after everything else
            assert await ingest.may(topic("gw-2", "ack"))
            await until(lambda: len(one.heard) >= 4 and len(two.heard) >= 3)
            assert sorted(one.heard) == sorted([*(topic("gw-1", leaf) for leaf in LEAVES_IN), topic("gw-1", "plan")])
            assert sorted(two.heard) == sorted([topic("gw-2", "ack"), topic("gw-2", "cmd"), topic("gw-2", "ack")])
            assert api.heard == ["mg/v1/7/notice"]
            assert len(ingest.heard) == 2

    asyncio.run(scenario())


def test_a_forgers_refusal_has_a_reason_code_with_mqtt_5(house: Guarded) -> None:
    async def scenario() -> None:
        async with connected(house.settings(of(house, "gw-1"), protocol="5"), "code") as gateway:
            with pytest.raises(Exception, match=r"(?i)not authorized"):
                await gateway.session.publish(topic("gw-2", "up"), b"{}")

    asyncio.run(scenario())


def test_strangers_and_the_nameless_get_nothing(house: Guarded, tmp_path: Path) -> None:
    user, password = of(house, "gw-1").read_text().split()
    other = of(house, "gw-2").read_text().split()[1]
    for name, secret in ((user, "wrong"), (user, other), ("gw-1", password), ("nobody", "x"), ("", "")):
        settings = house.settings(None, username=name, password=SecretStr(secret))
        assert re.search(r"(?i)not authori[sz]ed|bad user", asyncio.run(problem(settings))), name


def test_the_files_are_for_the_broker_alone_and_hold_no_password(house: Guarded) -> None:
    for name in ("users", "acl"):
        assert (house.access / name).stat().st_mode & 0o777 == 0o600
    said = (house.access / "users").read_text() + (house.access / "acl").read_text()
    for path in house.folder.glob("*.credential"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().split()[1] not in said


def test_list_tells_users_and_owners_and_no_secret(house: Guarded) -> None:
    found = [json.loads(line) for line in metergate("broker", "list", "--config", house.config).splitlines()]
    assert {row["user"]: row["owner"] for row in found}["ingest.1"] == "@ingest"
    assert all(set(row) == {"user", "owner", "created_at", "retired_at"} for row in found)


def test_mistakes_are_answered_and_change_nothing(house: Guarded) -> None:
    before = metergate("broker", "list", "--config", house.config)
    config = ("--config", house.config)
    assert "rotate replaces it" in refused("broker", "add", "gw-1", *config)
    assert 'did you mean "gw-1"' in refused("broker", "add", "gw1", *config)
    assert "there already" in refused("broker", "rotate", "gw-1", "--out", of(house, "gw-1"), *config)
    assert 'no user "gw-1"' in refused("broker", "retire", "gw-1", *config)
    assert "allowed: mosquitto, compose" in refused("broker", "write", "-f", house.access, "--layout", "x", *config)
    assert metergate("broker", "list", "--config", house.config) == before


def test_a_changed_credential_file_is_taken_over_without_a_restart(tmp_path: Path) -> None:
    house = Guarded(tmp_path, tls=False)
    mine = house.credential("gw-1")
    with house.running():

        async def scenario() -> None:
            async with connected(house.settings(mine), "gw") as gateway:
                new = house.credential("gw-1", "rotate")
                # in the worst order: the gateway has the new one before the broker knows it
                new.replace(mine)
                await until(lambda: gateway.session.counters["login_refused"] == 1)
                await until(lambda: gateway.session.connected)
                assert await gateway.may(topic("gw-1", "up"))  # the old one works on
                house.write()
                metergate("broker", "retire", "gw-1.1", "--config", house.config)
                house.write()  # Mosquitto turns the retired user out
                await until(lambda: gateway.session.counters["connects"] == 3 and gateway.session.connected)
                assert await gateway.may(topic("gw-1", "up"))
                assert gateway.session.counters["login_refused"] == 1

        asyncio.run(scenario())
        log = (tmp_path / "broker" / "broker.log").read_text()
        assert re.search(r"New client connected .* as gw .*u'gw-1\.2'", log)


def test_a_new_login_is_used_at_once_when_the_broker_knows_it(tmp_path: Path) -> None:
    house = Guarded(tmp_path, tls=False)
    mine = house.credential("gw-1")
    with house.running():

        async def scenario() -> None:
            async with connected(house.settings(mine), "gw") as gateway:
                new = house.credential("gw-1", "rotate")
                house.write()
                new.replace(mine)
                await until(lambda: gateway.session.counters["connects"] == 2 and gateway.session.connected)
                assert gateway.session.counters["login_changed"] == 1
                assert gateway.session.counters["login_refused"] == 0
                mine.unlink()  # a moment without the file changes nothing
                await asyncio.sleep(1.5)
                assert gateway.session.connected

        asyncio.run(scenario())


def test_field_meters_write_their_topics_and_their_gateway_reads_them(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'version = 1\ngateway = "gw-1"\n[[mqtt_bus]]\nname = "lorawan"\n'
        '[[mqtt_meter]]\nmeter = "G-1"\nbus = "lorawan"\ndevice = "0101010101010101"\nprofile = "ugm-chirpstack"\n',
        "utf-8",
    )
    house = Guarded(tmp_path, tls=False)
    gateway_file, sender_file = house.credential("gw-1"), house.credential("gw-1", "--field")
    event = "application/a/device/0101010101010101/event/up"
    with house.running():
        house.write("--plan", plan)

        async def scenario() -> None:
            async with (
                connected(house.settings(gateway_file), "gw", "application/#") as gateway,
                connected(house.settings(sender_file), "platform", "application/#", "mg/#") as sender,
            ):
                assert await sender.may(event)
                assert not await sender.may(topic("gw-1", "up"))
                assert not await sender.may("application/a/device/x/command/down")
                assert not await gateway.may(event)
                assert await gateway.may(topic("gw-1", "up"))
                await until(lambda: gateway.heard == [event])
                assert sender.heard == []

        asyncio.run(scenario())


@pytest.mark.parametrize(
    "name", ["#", "+/#", "mg/#", "mg/v1/+/+/up", "+/+/+/+/+", "$SYS/#", "a\nuser x", " a", "a\0"]
)
def test_a_plan_opens_no_topics_of_ours_and_no_lines_of_its_own(name: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot stand in an access list|would open topics"):
        acl_text([Login("gw-1.1", "gw-1", "", 0, None)], {"gw-1": FieldTopics((name,))})


def test_users_that_init_made_are_taken_over_with_their_passwords(tmp_path: Path) -> None:
    from tests.deploy.tools import make_secrets

    house = Guarded(tmp_path, tls=False)
    make_secrets(tmp_path / "secrets", "gw-1")
    metergate("broker", "adopt", tmp_path / "secrets" / "mosquitto_users", "--config", house.config)
    password = (tmp_path / "secrets" / "broker_gw-1").read_text()
    with house.running():

        async def scenario() -> None:
            settings = house.settings(None, username="gw-1", password=SecretStr(password))
            async with connected(settings, "gw") as gateway:
                assert await gateway.may(topic("gw-1", "up"))

        asyncio.run(scenario())
    target = tmp_path / "written"
    metergate("broker", "write", "-f", target, "--layout", "compose", "--config", house.config)
    for name in ("mosquitto_users", "mosquitto_acl"):
        assert (target / name).stat().st_mode & 0o777 == 0o444
        assert sorted((target / name).read_text().split()) == sorted(
            (tmp_path / "secrets" / name).read_text().split()
        )
