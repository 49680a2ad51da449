"""Commands on a real broker to a running gateway with simulated meters: sound ones are done once, others never."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.plan import Plan, parse_plan
from gateway.plan_store import stored_path
from gateway.profiles import load_profiles
from gateway.service import Gateway
from gateway.settings import FieldBrokerSettings, GatewaySettings
from metering.clock import SystemClock
from metering.messages import Command, nonce_of
from metering.mqtt import BrokerSettings
from metering.reading import Reading, Row
from metering.signing import make_key
from simulators.bus_farm import BusFarm
from tests.brokers import BrokerProcess, mosquitto
from tests.brokers import running as broker_running
from tests.gateway.drivers.buses import farm_of, running
from tests.gateway.office import GATEWAY, Office, until

METERS: list[dict[str, Any]] = [
    {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001", "clock_off_s": 28_800 + 7200},
    {"meter": "E-1", "profile": "electricity-dlt645-2007", "address": "000000000161", "clock_off_s": 28_800 - 90},
    {"meter": "E-2", "profile": "electricity-dlt645-2007", "address": "000000000162", "clock_off_s": 28_800 + 3600},
    {"meter": "W-2", "profile": "water-mbus", "address": "5"},
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with broker_running(mosquitto(tmp_path / "broker")) as started:
        yield started


def _plan_text(place: str, meters: list[dict[str, Any]], *, version: int = 1, interval_s: float = 3600.0) -> str:
    host, _, port = place.rpartition(":")
    lines = [f'version = {version}\ngateway = "{GATEWAY}"', "[[bus]]", 'name = "b"', 'kind = "serial-tcp"']
    lines += [f'host = "{host}"', f"port = {port}", "timeout_s = 5.0", "idle_gap_s = 1.0", "baud = 9600"]
    for meter in meters:
        lines += ["[[meter]]", f'meter = "{meter["meter"]}"', 'bus = "b"', f"interval_s = {interval_s}"]
        lines += [f'profile = "{meter["profile"]}"', f'address = "{meter["address"]}"']
    return "\n".join(lines) + "\n"


def _plan(text: str) -> Plan:
    return parse_plan(text, load_profiles(), name="plan")


@dataclass
class House:
    office: Office
    gateway: Gateway
    farm: BusFarm
    settings: GatewaySettings
    place: str


@asynccontextmanager
async def _house(
    tmp_path: Path, port: int, *, keys: bool = True, interval_s: float = 3600.0, **bus: Any
) -> AsyncIterator[House]:
    farm = farm_of(SystemClock(), {"name": "b", "kind": "tcp", "meter": METERS, "pace": False, **bus})
    office = Office(tmp_path, port)
    async with running(farm):
        settings = GatewaySettings(
            outbox=tmp_path / "gw" / "outbox.db", office_keys=(office.public,) if keys else (), health_interval_s=0.5
        )
        plan = _plan(_plan_text(farm.path("b"), METERS, interval_s=interval_s))
        gateway = Gateway(
            settings, plan, broker=BrokerSettings(port=port), field_broker=FieldBrokerSettings(port=port),
            clock=SystemClock(), rng=random.Random(1),
        )  # fmt: skip
        work = [asyncio.ensure_future(office.run()), asyncio.ensure_future(gateway.run())]
        try:
            await until(lambda: office.session.connected and gateway.uplink and gateway.uplink.session.connected)
            yield House(office, gateway, farm, settings, farm.path("b"))
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


def _in_house(tmp_path: Path, port: int, scenario: Callable[[House], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with _house(tmp_path, port, **settings) as house:
            await scenario(house)

    asyncio.run(run())


def test_read_now_brings_a_reading_and_a_result_for_each_meter(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario(house: House) -> None:
        office = house.office
        nonce, sealed = office.command("read-now", {"meters": ["W-1", "E-1", "nobody"]})
        before = len(office.rows)
        await office.send(sealed)
        await until(lambda: office.finals(nonce), what="the result")
        results = office.results(nonce)
        assert {meter: event.cause for meter, event in results.items()} == {
            "W-1": "ok", "E-1": "ok", "nobody": "unknown_meter",
        }  # fmt: skip
        (final,) = office.finals(nonce)
        assert final.cause == "failed"
        assert nonce_of(final.text)[1] == "2 of 3 meters read; not: nobody unknown_meter"
        read = {row.meter for row in office.rows[before:] if isinstance(row, Reading)}
        assert {"W-1", "E-1"} <= read
        assert results["W-1"].text.split()[1] == "volume"

    _in_house(tmp_path, broker.port, scenario)


def test_set_clock_sets_reads_back_and_says_which_meters_did_not_take_it(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    """CJ/T 188 takes any time; DL/T 645 moves by five minutes at most, so E-2, an hour off, stays where it is."""

    async def scenario(house: House) -> None:
        office, meters = house.office, house.farm.meters
        nonce, sealed = office.command("set-clock", {"meters": ["W-1", "E-1", "E-2", "W-2"], "utc_offset_s": 28_800})
        await office.send(sealed)
        await until(lambda: office.finals(nonce), what="the result")
        causes = {meter: event.cause for meter, event in office.results(nonce).items()}
        assert causes == {"W-1": "ok", "E-1": "ok", "E-2": "not_taken", "W-2": "no_set_time"}
        assert abs(meters["W-1"].clock_ms - 28_800_000) <= 2000
        assert abs(meters["E-1"].clock_ms - 28_800_000) <= 2000
        assert meters["E-2"].clock_ms == (28_800 + 3600) * 1000
        assert (len(meters["W-1"].times_set), len(meters["E-1"].times_set)) == (1, 1)

    _in_house(tmp_path, broker.port, scenario)


def test_what_is_not_sound_does_nothing_and_is_recorded(tmp_path: Path, broker: BrokerProcess) -> None:
    """Replayed, late, from tomorrow, for another, of another's key, unknown, garbled, too long-lived, too large."""

    async def scenario(house: House) -> None:
        office, clock = house.office, SystemClock()
        args = {"meters": ["W-1"], "utc_offset_s": 0}
        now = clock.now_ms()
        stranger = make_key(tmp_path / "stranger.key")
        sound_nonce, sound = office.command("set-clock", args)
        await office.send(sound)
        await until(lambda: office.finals(sound_nonce))
        told = house.farm.meters["W-1"].times_set
        assert len(told) == 1
        late, tomorrow = (
            office.command("set-clock", args, issued_at=now - 90_000, deadline=now - 1000),
            office.command("set-clock", args, issued_at=now + 86_400_000, deadline=now + 86_460_000),
        )
        unknown = office.command("dance", {"bus": "b"})
        badly = office.command("set-clock", {"meters": ["W-1"], "utc_offset_s": "8"})
        for payload in (
            sound,
            late[1],
            tomorrow[1],
            office.command("set-clock", args, gateway="gw-other")[1],
            stranger.seal("command", b"{}"),
            sound.replace(b"W-1", b"W-2"),
            office.key.seal("plan", b"{}"),
            unknown[1],
            badly[1],
            office.command("set-clock", args, deadline=now + 3 * 86_400_000)[1],
            office.command("set-clock", {"meters": ["W" * 60] * 2000, "utc_offset_s": 0})[1],
            b"\xff not json",
            b"",
        ):
            await office.send(payload)
        wanted = {
            "replayed": 1, "late": 1, "not_yet": 1, "other_gateway": 1, "bad_signature": 3, "unknown_command": 1,
            "not_understood": 5,
        }  # fmt: skip
        counters = house.gateway.refusals.counters
        await until(lambda: sum(counters.values()) == sum(wanted.values()), what=f"all refusals; {counters}")
        assert counters == {f"refused_{cause}": count for cause, count in wanted.items()}
        await until(lambda: {e.cause for e in office.events("security")} == set(wanted), what="all security events")
        for nonce, _ in (late, tomorrow, unknown, badly):
            await until(lambda n=nonce: office.finals(n))  # type: ignore[misc]  # mypy does not infer the default
            assert office.finals(nonce)[0].cause == "refused"
        assert "this gateway knows no" in office.finals(unknown[0])[0].text
        assert len(told) == 1
        assert len(office.finals(sound_nonce)) == 1

    _in_house(tmp_path, broker.port, scenario)


def test_a_retained_command_is_not_acted_on(tmp_path: Path, broker: BrokerProcess) -> None:
    """It was delivered live once, which counts; every later connection gets it again as retained."""

    async def before() -> tuple[str, bytes]:
        folder = tmp_path / "early"
        folder.mkdir()
        office = Office(folder, broker.port)
        work = asyncio.ensure_future(office.run())
        await until(lambda: office.session.connected)
        nonce, sealed = office.command("set-clock", {"meters": ["W-1"], "utc_offset_s": 0})
        await office.send(sealed, retain=True)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return nonce, sealed

    asyncio.run(before())

    async def scenario(house: House) -> None:
        await until(lambda: house.gateway.refusals.counters.get("refused_retained"))
        await until(lambda: house.office.events("security", "retained"))
        assert house.farm.meters["W-1"].times_set == []

    _in_house(tmp_path, broker.port, scenario)


def test_a_gateway_without_keys_obeys_nobody(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario(house: House) -> None:
        await house.office.send(house.office.command("set-clock", {"meters": ["W-1"], "utc_offset_s": 0})[1])
        await house.office.send(house.office.plan(_plan_text(house.place, METERS[:1], version=9), 9), leaf="plan")
        await until(lambda: house.gateway.refusals.counters.get("refused_no_key") == 2)
        assert house.farm.meters["W-1"].times_set == []
        assert house.gateway.plan.version == 1

    _in_house(tmp_path, broker.port, scenario, keys=False)


def test_read_now_overtakes_a_running_sweep_on_a_slow_bus(tmp_path: Path, broker: BrokerProcess) -> None:
    """Four meters at 2400 baud that are always due: a sweep takes seconds, the one asked for comes next."""

    async def scenario(house: House) -> None:
        poller, office, commands = house.gateway.poller, house.office, house.gateway.commands
        polls: list[int] = []  # when the command is taken, and when its result goes to the outbox
        begin, append = commands._begin, commands._append

        def begun(command: Command) -> None:
            polls.append(poller.counters["polls"])
            begin(command)

        async def ended(rows: Sequence[Row]) -> None:
            polls.append(poller.counters["polls"])
            await append(rows)

        commands._begin, commands._append = begun, ended  # type: ignore[method-assign]  # watched, not replaced
        await until(lambda: len(poller.buses["b"].ready) >= 3, what="a sweep with a queue")
        waiting = [poll.meter.meter for poll in poller.buses["b"].ready]
        nonce, sealed = office.command("read-now", {"meters": [waiting[-1]]})
        await office.send(sealed)
        await until(lambda: office.finals(nonce))
        # the poll under way may end and one of another's steps may stand before it, no more
        at = [row for row in office.rows if not isinstance(row, Reading)].index(office.finals(nonce)[0])
        assert at >= 0
        assert office.results(nonce)[waiting[-1]].cause == "ok"
        assert polls[1] - polls[0] <= 2

    _in_house(tmp_path, broker.port, scenario, interval_s=0.1, baud=2400, parity="even", pace=True)


def test_a_plan_by_broker_is_taken_when_newer_and_kept_for_the_next_start(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    async def scenario(house: House) -> None:
        office, gateway = house.office, house.gateway
        text = _plan_text(house.place, METERS[:2], version=3, interval_s=1.0)
        await office.send(office.plan(text, 3), leaf="plan", retain=True)
        await until(lambda: gateway.plan.version == 3, what="plan 3")
        assert stored_path(house.settings).read_bytes() == office.plan(text, 3)
        await until(lambda: office.events("plan", "accepted"))
        for version in (2, 3):  # an older one and the same again do nothing
            await office.send(
                office.plan(_plan_text(house.place, METERS, version=version), version), leaf="plan", retain=True
            )
        dense = _plan_text(house.place, METERS, version=4, interval_s=0.01)
        await office.send(office.plan(dense, 4), leaf="plan")
        await until(lambda: office.events("plan", "refused"))
        assert "90% is allowed" in office.events("plan", "refused")[0].text
        other = _plan_text(house.place, METERS, version=6)
        await office.send(office.plan(other, 5), leaf="plan")  # envelope and content disagree
        await office.send(make_key(tmp_path / "x.key").seal("plan", b"{}"), leaf="plan")
        await until(lambda: len(office.events("plan", "refused")) == 2)
        await until(lambda: office.events("security", "bad_signature"))
        assert (gateway.plan.version, len(gateway.plan.meters)) == (3, 2)
        read = len([row for row in office.rows if isinstance(row, Reading)])
        await until(lambda: len([row for row in office.rows if isinstance(row, Reading)]) > read + 4)

    _in_house(tmp_path, broker.port, scenario)


def test_a_plan_brings_mqtt_meters_and_takes_them_away_again(tmp_path: Path, broker: BrokerProcess) -> None:
    """The gateway had none: it connects to the field broker, and read-now says that such a meter sends by itself."""
    pushed = '[[mqtt_bus]]\nname = "lora"\n[[mqtt_meter]]\nmeter = "G-9"\nbus = "lora"\n'
    pushed += 'device = "0004A30B001C0530"\nprofile = "ugm-chirpstack"\n'

    async def scenario(house: House) -> None:
        office, gateway = house.office, house.gateway
        assert gateway.pushed is None
        await office.send(office.plan(_plan_text(house.place, METERS, version=2) + pushed, 2), leaf="plan")
        await until(lambda: gateway.pushed is not None and gateway.pushed.session.connected, what="a field session")
        nonce, sealed = office.command("read-now", {"meters": ["G-9", "W-1"]})
        await office.send(sealed)
        await until(lambda: office.finals(nonce))
        assert {m: e.cause for m, e in office.results(nonce).items()} == {"G-9": "sends_by_itself", "W-1": "ok"}
        await office.send(office.plan(_plan_text(house.place, METERS, version=3), 3), leaf="plan")
        await until(lambda: gateway.plan.version == 3 and gateway.pushed is None, what="no field session")
        assert gateway.health().meters == 4

    _in_house(tmp_path, broker.port, scenario)
