"""The pages of the field network: gateways, one gateway with its buses, and decisions on refused rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa

from api.screens.field import offset, share, span
from metering.messages import BusHealth, MeterOnBus
from registry import ledger
from registry.models import Quarantine
from registry.models_billing import GatewayOutage
from registry.models_books import OfficeRow
from registry.roles import Role
from tests.api.routes.test_pages import Tags
from tests.api.screens.people import ENGLISH, Person, as_person, plain
from tests.api.world import HOUR, T0, World, make_key, make_world

EVIL = "<script>alert(1)</script>\"'&"
NOW = T0 + 24 * HOUR


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all that only read; gw-1 tells of a bus with a meter in trouble."""
    made = make_world(tmp_path_factory.mktemp("field"))
    with made.database.begin() as connection:
        ledger.save_gateway_status(connection, [ledger.StatusRow("gw-1", health_at=NOW - 1000, health=health())])
        connection.execute(sa.delete(GatewayOutage))
        connection.execute(sa.insert(GatewayOutage).values(gateway="gw-1", from_at=T0, to_at=T0 + 90 * 60_000))
    yield made
    made.close()


def health(**more: Any) -> dict[str, Any]:
    """What gw-1 says: an hour of counts on a pair where G-0001 fails and W-0001 answers."""
    bad = MeterOnBus("G-0001", "7", 60.0, 0.4, 300.0, 60, 50, 8, 1, 1, 0, 0, 8, T0 + 23 * HOUR, T0 + 22 * HOUR)
    good = MeterOnBus("W-0001", "8", 60.0, 0.4, 24.0, 60, 60, 0, 0, 0, 0, 0, 0, 0, NOW)
    bus = BusHealth("tcp-1", "serial", True, 3600.0, 0.42, 25.2, [bad, good], 3)
    facts = {"waiting": 7, "oldest_at": T0 + 20 * HOUR, "outbox": "ok", "counters": {}, "meters_silent": 1}
    facts |= {"at": NOW - 9000, "heard_at": NOW, "version": "1.2", "plan": "7", "buses_at": NOW - 60_000}
    return {**facts, "buses": msgspec.to_builtins([bus]), **more}


def get(world: World, path: str, *roles: Role, areas: frozenset[str] | None = None) -> httpx.Response:
    """A page as somebody with these roles sees it."""
    shown = {"authorization": f"Bearer {make_key(world.database, *roles, areas=areas)}"} if roles else {}
    return world.get(path, headers={**ENGLISH, **shown})


def test_a_gateway_shows_outbox_clock_version_and_silent_meters(still: World) -> None:
    said = plain(get(still, "/field").text)
    # 7 rows, the oldest four hours old; its clock is nine seconds behind ours
    assert "gw-1 in order south 2 1 silent 7 4 h 2 2 20 2026-03-01 23:59:58 −9.0 s 1.2" in said
    assert "gw-9 offline" in said


def test_one_gateway_shows_its_buses_with_budget_share_and_faults(still: World) -> None:
    said = plain(get(still, "/field/gw-1").text)
    # 324 s of 3600 were spent reading; 300 of them on the meter that fails, which should take 0.4 s of 60
    assert (
        "A sweep takes 25.2 s; the plan needs 42.0 % of the bus's time (90 % is allowed), reading took 9.0 %." in said
    )
    assert "G-0001 7 60 s 0.7 % 8.3 % 60 50 8 1 1 0 8 failed in a row" in said
    assert "W-0001 8 60 s 0.7 % 0.7 % 60 60 0 0 0 0 answers" in said
    assert "in better order than these: 3" in said
    assert "W-0001 no answer 6" in said
    assert "00ff00ff 25 20 5 11–12 0" in said
    assert "2026-03-01 01:30:00 · 1 h 30 min" in said


def test_a_gateway_that_tells_nothing_is_shown_by_the_books(still: World) -> None:
    said = plain(get(still, "/field/gw-2").text)
    assert "The gateway has not told of its buses" in said
    assert "Meters in the books: 1" in said
    assert get(still, "/field/gw-none").status_code == 404


def test_a_gateway_of_another_area_is_not_found(still: World) -> None:
    north = frozenset({"north"})
    assert get(still, "/field/gw-1", Role.ENGINEER, areas=north).status_code == 404
    assert get(still, "/field/gw-2", Role.ENGINEER, areas=north).status_code == 200
    assert "gw-1" not in get(still, "/field", Role.ENGINEER, areas=north).text
    # a row that names no meter of the area is nobody's there
    assert "No such row." in plain(get(still, "/field/quarantine", Role.ENGINEER, areas=north).text)
    assert get(still, "/field/quarantine/1", Role.ENGINEER, areas=north).status_code == 404


def test_refused_rows_are_narrowed_and_shown_with_their_bytes(still: World) -> None:
    said = plain(get(still, "/field/quarantine").text)
    assert '{"meter":"X"}' in said
    assert "unknown meter" in said
    assert "00ff00ff" in said
    only = plain(get(still, "/field/quarantine?reason=unknown_meter&gateway=gw-1").text)
    assert "bad byte" not in only
    assert "No such row." in plain(get(still, "/field/quarantine?gateway=gw-2").text)
    assert "80000 bytes. Only the first 64 KiB are shown." in plain(get(still, "/field/quarantine/2").text)
    assert get(still, "/field/quarantine/99").status_code == 404


def test_who_sees_refused_rows_and_who_decides_on_them(still: World) -> None:
    for role in (Role.VIEWER, Role.DISPATCHER, Role.BILLING):
        assert get(still, "/field/quarantine", role).status_code == 403
        assert "/field/quarantine" not in get(still, "/field", role).text
        assert "/field/quarantine" not in get(still, "/field/gw-1", role).text
    assert get(still, "/field/quarantine", Role.OPERATOR).status_code == 200


def refuse(world: World, reason: str = "foreign_meter", **more: Any) -> int:
    """Put a whole reading of G-0001 into quarantine and return its number."""
    reading = {"meter": "G-0001", "read_at": NOW - 2 * HOUR, "values": {"volume_standard": 1_011_200_000}, **more}
    row = ledger.QuarantineRow(
        "gw-2", f"d{reason}{len(more)}", NOW, reason, EVIL, json.dumps(reading).encode(), meter="G-0001",
        read_at=NOW - 2 * HOUR,
    )  # fmt: skip
    with world.database.begin() as connection:
        ledger.add_quarantine(connection, [row])
        return int(connection.execute(sa.select(sa.func.max(Quarantine.id))).scalar_one())


def test_an_engineer_adopts_and_discards_with_a_reason(world: World) -> None:
    good, stored = refuse(world), refuse(world, "conflict")

    async def work(him: Person) -> None:
        back = "/field/quarantine?gateway=gw-2&view=all"
        page = await him.browser.get(back)
        assert f'id="adopt-{good}"' in page.text
        unsaid = await him.post(f"/field/quarantine/{good}/adopt", 422, note=" ", back=back)
        assert "say why" in plain(unsaid.text)
        answer = await him.post(f"/field/quarantine/{good}/adopt", note="the meter was moved " + EVIL, back=back)
        assert answer.headers["location"] == back + "&done=adopted"
        said = await him.look(answer.headers["location"])
        assert "adopted" in said
        assert "waits to be sent" in said
        assert EVIL in said
        assert "by user:him already" in plain((await him.post(f"/field/quarantine/{good}/adopt", 422, note="x")).text)
        never = await him.post(f"/field/quarantine/{stored}/adopt", 422, note="kept in the form")
        assert "a stored value is never overwritten" in plain(never.text)
        assert 'value="kept in the form"' in never.text
        await him.post(f"/field/quarantine/{stored}/discard", note="a test")
        assert "No such row." in await him.look("/field/quarantine?gateway=gw-2")
        await him.post("/field/quarantine/99/discard", 404, note="x")
        outside = await him.post("/field/quarantine/1/discard", note="x", back="https://evil.example")
        assert outside.headers["location"] == "/?done=discarded"

    as_person(world, "him", Role.ENGINEER, work=work)
    with world.database.read() as connection:
        row = connection.execute(sa.select(OfficeRow).where(OfficeRow.quarantine_id == good)).one()
    assert (row.meter, row.quality, row.posted_by) == ("G-0001", "suspect", "user:him")


def test_an_operator_sees_rows_and_no_button_and_is_refused_anyway(world: World) -> None:
    number = refuse(world)

    async def work(her: Person) -> None:
        for path in ("/field/quarantine", f"/field/quarantine/{number}"):
            assert "adopt-" not in (await her.browser.get(path)).text
        await her.post(f"/field/quarantine/{number}/discard", 403, note="x")

    as_person(world, "her", Role.OPERATOR, work=work)


def test_ten_thousand_refused_rows_come_in_pages(world: World) -> None:
    rows = [
        ledger.QuarantineRow("gw-1", f"m{n}", NOW, "unknown_meter", EVIL, b"x" * 500, meter=f"M-{n}")
        for n in range(10_000)
    ]
    with world.database.begin() as connection:
        ledger.add_quarantine(connection, rows)
    first = get(world, "/field/quarantine")
    assert first.text.count('<tr id="row-') == 50
    assert len(first.content) < 100_000
    following = next(a["href"] for t, a in Tags(first.text).tags if t == "a" and a.get("rel") == "next")
    assert get(world, str(following)).text.count('<tr id="row-') == 50


def test_whatever_a_gateway_says_is_text(world: World) -> None:
    strange = [EVIL, -1, True, [EVIL], {EVIL: 1}, 2**70, None]
    for value in strange:
        said = health(
            version=EVIL + "名" * 500, plan=value, at=value, heard_at=value, meters_silent=value, buses=value
        )
        with world.database.begin() as connection:
            ledger.save_gateway_status(connection, [ledger.StatusRow("gw-1", health_at=NOW, health=said)])
        for path in ("/field", "/field/gw-1"):
            page = get(world, path)
            assert page.status_code == 200, value
            assert "<script>alert" not in page.text


def test_a_registry_that_cannot_be_read_leaves_the_pages_and_says_why(world: World) -> None:
    with world.database.begin() as connection:
        for table in ("position", "quarantine"):
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO away_{table}")
    for path in ("/field", "/field/gw-1", "/field/quarantine", "/field/quarantine/1"):
        assert "no such table" in plain(get(world, path).text), path


@pytest.mark.parametrize(
    ("ms", "said"),
    [(0, "0 s"), (45_000, "45 s"), (61_000, "1 min 1 s"), (7_200_000, "2 h"), (183_600_000, "2 d 3 h")],
)
def test_spans_are_said_in_two_units(ms: int, said: str) -> None:
    assert span(ms) == said


def test_offsets_and_shares() -> None:
    assert (offset(-9000), offset(200), offset(180_000)) == ("−9.0 s", "+0.2 s", "+3 min")
    assert (share(None), share(0.0833)) == ("–", "8.3 %")
