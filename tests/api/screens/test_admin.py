"""The pages of administration over a small utility: what they show, what their forms do, who sees what."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from anomaly import changes
from api.audit_job import verify_job
from api.jobs import book
from api.jobs.settings import JobSettings
from api.jobs.words import JobError, Materials, Work
from api.jobs.workshop import Workshop
from api.routes.screen_admin_storage import size
from ingest.store_sqlite import SqliteStore
from registry import audit, keys
from registry.anchors import anchor
from registry.models_access import ApiKey, AuditRecord, User
from registry.roles import Role, console
from tests.api.routes.test_pages import Tags
from tests.api.screens.people import ENGLISH, Person, as_person, enter, plain
from tests.api.world import T0, World, client, make_key, make_world

EVIL = "<script>alert(1)</script>\"'&"
PAGES = {
    "/admin": {Role.ADMIN, Role.SUPERVISOR, Role.ENGINEER, Role.APPROVER},
    "/admin/users": {Role.ADMIN},
    "/admin/users/li": {Role.ADMIN},
    "/admin/keys": {Role.ADMIN},
    "/admin/audit": {Role.ADMIN, Role.SUPERVISOR},
    "/admin/thresholds": {Role.ADMIN, Role.SUPERVISOR, Role.ENGINEER, Role.APPROVER},
    "/admin/outbound": {Role.ADMIN, Role.SUPERVISOR, Role.ENGINEER},
    "/admin/storage": {Role.ADMIN, Role.SUPERVISOR, Role.ENGINEER},
}


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all that only read."""
    made = make_world(tmp_path_factory.mktemp("still"))
    yield made
    made.close()


def get(world: World, path: str, role: Role | None = None) -> httpx.Response:
    """A page as one of a role sees it."""
    shown = {} if role is None else {"authorization": f"Bearer {make_key(world.database, role)}"}
    return world.get(path, headers={**ENGLISH, **shown})


def test_what_a_role_does_not_open_has_no_link_and_is_refused(still: World) -> None:
    for role in (Role.ADMIN, Role.SUPERVISOR, Role.ENGINEER, Role.APPROVER, Role.VIEWER):
        start = get(still, "/", role)
        assert ('href="/admin"' in start.text) == (role in PAGES["/admin"]), role
        links = {str(a.get("href")) for t, a in Tags(get(still, "/admin", role).text).tags if t == "a"}
        for path, roles in PAGES.items():
            assert get(still, path, role).status_code == (200 if role in roles else 403), f"{role} {path}"
            if path.count("/") == 2:
                assert (path in links) == (role in roles), f"{role} {path}"


def test_the_audit_and_the_disk_are_for_those_who_see_all_areas(still: World) -> None:
    limited = make_key(still.database, Role.SUPERVISOR, areas=frozenset({"north"}))
    shown = {**ENGLISH, "authorization": f"Bearer {limited}"}
    for path in ("/admin/audit", "/admin/storage"):
        assert still.get(path, headers=shown).status_code == 403
        assert path not in still.get("/admin", headers=shown).text


def test_an_administrator_makes_a_user_whose_password_is_shown_once(world: World) -> None:
    async def work(boss: Person) -> None:
        assert "No user" not in await boss.look("/admin/users")
        form = {"name": "zheng", "display_name": EVIL, "role": ["operator", "engineer"], "areas": "north, 南区"}
        made = await boss.post("/admin/users", 200, **form)
        assert made.headers["cache-control"] == "no-store"
        found = re.search(r'<code id="secret">([^<]+)</code>', made.text)
        assert found
        assert found[1] not in (await boss.browser.get("/admin/users/zheng")).text
        said = await boss.look("/admin/users/zheng")
        assert "has a one-time password" in said
        assert EVIL in said
        async with client(world.app, "") as other:
            him = await enter(other, "zheng", found[1])
            assert "engineer, operator" in (await him.look("/account")).replace("meter engineer", "engineer")
            assert (await other.get("/admin/users")).status_code == 403

    as_person(world, "boss", Role.ADMIN, work=work)


def test_a_refused_form_keeps_what_was_typed(world: World) -> None:
    async def work(boss: Person) -> None:
        again = await boss.post("/admin/users", 422, name="No Name", display_name="李", role="viewer", areas="x")
        assert "a user's name has 1 to 64" in plain(again.text)
        kept = {a.get("value") for t, a in Tags(again.text).tags if t == "input" and "checked" in a}
        assert kept == {"viewer"}
        assert 'value="No Name"' in again.text
        for bad in ({"name": "x"}, {"name": "x", "role": "emperor"}, {"name": "li", "role": "viewer"}):
            assert "Not done:" in plain((await boss.post("/admin/users", 422, **bad)).text), bad
        await boss.post("/admin/users", 422, name="x", role="viewer", display_name="名" * 500)

    as_person(world, "boss", Role.ADMIN, work=work)


def test_rights_change_by_the_version_that_was_seen_and_the_last_administrator_stays(world: World) -> None:
    async def work(boss: Person) -> None:
        page = await boss.browser.get("/admin/users/li")
        version = re.search(r'name="version" value="(\d+)"', page.text)
        assert version
        seen: dict[str, Any] = {"version": version[1], "role": "dispatcher", "rank": "finance", "areas": "*"}
        assert (await boss.post("/admin/users/li/edit", **seen)).headers["location"] == "/admin/users/li?done=changed"
        assert "dispatcher" in await boss.look("/admin/users/li")
        late = plain((await boss.post("/admin/users/li/edit", 422, **seen)).text)
        assert "was changed meanwhile" in late
        mine = re.search(r'name="version" value="(\d+)"', (await boss.browser.get("/admin/users/boss")).text)
        assert mine
        refused = await boss.post("/admin/users/boss/disable", 422, version=mine[1])
        assert "last administrator" in plain(refused.text)
        await boss.post("/admin/users/nobody/unlock", 404)

    as_person(world, "boss", Role.ADMIN, work=work)


def test_a_user_is_locked_out_let_in_and_given_a_new_password(world: World) -> None:
    async def work(boss: Person) -> None:
        def version() -> str:
            with world.database.read() as connection:
                return str(connection.execute(sa.select(User.version).where(User.name == "li")).scalar_one())

        await boss.post("/admin/users/li/disable", version=version())
        assert "State disabled" in await boss.look("/admin/users/li")
        await boss.post("/admin/users/li/enable", version=version())
        assert "One-time password li" in plain((await boss.post("/admin/users/li/reset", 200)).text)
        await boss.post("/admin/users/li/unlock")
        await boss.post("/admin/users/li/remove-codes")
        with world.database.read() as connection:
            done = [row["action"] for row in audit.records(connection, actor="user:boss", object_id="li")]
        assert done == ["user.totp_remove", "user.unlock", "user.reset_password", "user.edit", "user.edit"]

    as_person(world, "boss", Role.ADMIN, work=work)


def test_a_key_is_shown_once_replaced_and_revoked(world: World) -> None:
    async def work(boss: Person) -> None:
        form = {"name": "SCADA <b>", "role": "viewer", "areas": "*", "days": "30"}
        made = await boss.post("/admin/keys", 200, **form)
        found = re.search(r'<code id="secret">(mg_[a-z2-7]{8})(_[^<]+)</code>', made.text)
        assert found
        program = client(world.app, found[1] + found[2])
        assert (await program.get("/api/v1/meters")).status_code == 200
        listed = (await boss.browser.get("/admin/keys")).text
        assert found[2] not in listed
        assert "SCADA &lt;b&gt;" in listed
        assert "looks only" in plain(listed)
        await boss.post(f"/admin/keys/{found[1]}/rotate", 200, keep_hours="24")
        assert (await boss.post(f"/admin/keys/{found[1]}/revoke")).headers["location"] == "/admin/keys?done=revoked"
        assert (await program.get("/api/v1/meters")).status_code == 401
        await program.aclose()
        assert "revoked" in await boss.look("/admin/keys?view=all")
        refused: tuple[dict[str, Any], ...] = (
            {"days": "0"},
            {"days": "9999"},
            {"days": "x"},
            {"areas": ""},
            {"role": []},
        )
        for bad in refused:
            assert "Not done:" in plain((await boss.post("/admin/keys", 422, **{**form, **bad})).text), bad
        await boss.post("/admin/keys/mg_aaaaaaaa/rotate", 404)

    as_person(world, "boss", Role.ADMIN, work=work)


def test_ten_thousand_users_and_keys_come_in_pages(world: World) -> None:
    user = {"display_name": "", "roles": ["viewer"], "ranks": [], "areas": ["*"], "created_at": T0, "changed_at": T0}
    key = {"hash": "", "roles": ["viewer"], "areas": ["*"], "read_only": True, "created_by": "x", "created_at": T0}
    key |= {"expires_at": T0 + 90 * 86_400_000, "name": EVIL}
    letters = "abcdefghij"
    named = ["mg_" + "".join(letters[int(digit)] for digit in f"{n:08d}") for n in range(10_000)]
    with world.database.begin() as connection:
        connection.execute(sa.insert(User), [{**user, "name": f"u{n:05d}"} for n in range(10_000)])
        connection.execute(sa.insert(ApiKey), [{**key, "id": name} for name in named])
    for path in ("/admin/users", "/admin/keys"):
        first = get(world, path)
        assert first.text.count("<tr>") == 101
        assert len(first.content) < 250_000
        following = next(a["href"] for t, a in Tags(first.text).tags if t == "a" and a.get("rel") == "next")
        second = get(world, str(following))
        assert second.status_code == 200
        assert second.text.count("<tr>") == 101
    assert "u09999" in plain(get(world, "/admin/users?search=u0999").text)
    assert "Users: 10004" in plain(get(world, "/admin").text)


def test_the_audit_is_narrowed_by_who_what_and_when(still: World) -> None:
    said = plain(get(still, "/admin/audit").text)
    assert "user.create" in said
    assert "none: a cut tail would not show." in said
    assert "never asked for here" in said
    only = plain(get(still, "/admin/audit?action=user.&object_id=li").text)
    assert "user.create" in only
    assert "key.create" not in only
    assert "No entry fits." in plain(get(still, "/admin/audit?since=2030-01-01T00:00").text)
    assert "user.create" in plain(get(still, "/admin/audit?since=2026-03-01T00:00&until=2026-03-01T00:01").text)
    assert get(still, "/admin/audit?since=yesterday").status_code == 422
    assert get(still, "/admin/audit?since=2026-02-31T00:00").status_code == 422


def test_the_whole_audit_is_checked_in_the_background(world: World, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors.jsonl"
    materials = Materials(
        str(world.database.url), lambda: SqliteStore(tmp_path / "none.db", mode="read"), anchors=anchors
    )
    world.app.state.house.workshop = Workshop(JobSettings(folder=tmp_path), materials)
    anchor(world.database, anchors, _Quiet(), world.clock.now_ms())

    async def work(boss: Person) -> None:
        await boss.post("/admin/audit/verify")
        await boss.post("/admin/audit/verify")  # one at a time
        page = await boss.browser.get("/admin/audit")
        assert 'hx-trigger="every 2s"' in page.text
        assert "being checked" in plain(page.text)
        with world.database.read() as connection:
            (row,) = book.rows(connection, console("x"), state=None, kind="audit.verify", before=None, limit=9)
        for spoilt in (False, True):
            if spoilt:
                with world.database.begin() as connection:
                    connection.execute(
                        sa.update(AuditRecord).where(AuditRecord.number == 3).values(actor="user:evil")
                    )
            outcome = verify_job(_work(world, materials, tmp_path))
            assert bool(outcome["faults"]) is spoilt
            with world.database.begin() as connection:
                facts = {"state": "done", "outcome": outcome, "finished_at": world.clock.now_ms()}
                connection.execute(sa.update(book.JOB).where(book.JOB.c.id == row["id"]).values(**facts))
            said = await boss.look("/admin/audit")
            assert ("Faults: 1" in said and "edited 3" in said) if spoilt else "sound: " in said

    as_person(world, "boss", Role.ADMIN, work=work)
    with pytest.raises(JobError, match="anchors no audit"):
        verify_job(_work(world, Materials("", materials.open_store), tmp_path))


class _Quiet:
    def info(self, event: str, **facts: object) -> None:
        pass

    error = info


def _work(world: World, materials: Materials, folder: Path) -> Work:
    actor = console("test")
    return Work(
        1, {}, actor, T0, world.database, world.store, materials, folder / "result", lambda *_: None, lambda *_: None
    )


def test_thresholds_are_proposed_tried_and_confirmed_by_another(world: World) -> None:
    async def engineer(zhao: Person) -> None:
        assert "zero_use.min_days 7 built-in" in await zhao.look("/admin/thresholds?medium=gas")
        form: dict[str, Any] = {"threshold": ["zero_use.min_days", "", ""], "value": ["10", "", ""], "medium": "gas"}
        form |= {"effective": "2026-04-01", "reason": EVIL}
        for bad in (
            {"value": ["ten", "", ""]},
            {"threshold": ["zero_use.minimum", "", ""]},
            {"effective": "2020-01-01"},
            {"effective": ""},
            {"reason": ""},
            {"medium": "beer"},
        ):
            again = await zhao.post("/admin/thresholds", 422, **{**form, **bad})
            assert "Not done:" in plain(again.text), bad
        assert 'value="10"' in again.text
        made = await zhao.post("/admin/thresholds", **form)
        address = made.headers["location"]
        said = await zhao.look(address)
        assert "zero_use.min_days 7 → 10" in said
        assert EVIL in said
        assert (await zhao.post(address + "/backtest")).headers["location"] == address
        page = await zhao.browser.get(address)
        assert 'hx-trigger="every 2s"' in page.text
        assert 'id="confirm"' not in page.text
        _finish(world, int(address.rpartition("/")[2]), would_flag=2)
        page = await zhao.browser.get(address)
        assert "Would flag 2 of 3 meters." in plain(page.text)
        assert "nobody confirms what he proposed himself" in plain(page.text)
        await zhao.post(address + "/confirm", 403)

    async def supervisor(wang: Person) -> None:
        links = [
            str(a.get("href")) for t, a in Tags((await wang.browser.get("/admin/thresholds")).text).tags if t == "a"
        ]
        address = next(link for link in links if link.startswith("/admin/thresholds/changes/"))
        assert "type 2 to accept it" in await wang.look(address)
        wrong = plain((await wang.post(address + "/confirm", 422, accept="1", note="kept note")).text)
        assert "2 of 3 meters" in wrong
        done = await wang.post(address + "/confirm", accept="2", note="as agreed")
        assert done.headers["location"] == address + "?done=confirmed"
        assert "confirmed, not yet in force" in await wang.look(address)
        assert "Not done:" in plain((await wang.post(address + "/cancel", 422)).text)
        await wang.post(address + "/cancel", note="winter is over")
        assert "given up" in await wang.look(address)
        assert (await wang.browser.get("/admin/thresholds/changes/9")).status_code == 404

    as_person(world, "zheng", Role.ENGINEER, work=engineer)
    as_person(world, "wang", Role.SUPERVISOR, work=supervisor)


def _finish(world: World, number: int, *, would_flag: int) -> None:
    """Write what a back-test writes."""
    result: dict[str, Any] = {
        "would_flag": would_flag,
        "flagged_now": 0,
        "meters": 3,
        "in_scope": 3,
        "tested_in_scope": 3,
        "new": 2,
    }
    result |= {"gone": 0, "new_examples": [["G-0001", "zero_use"]], "gone_examples": [], "notes": []}
    result |= {"from": "2026-02-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"}
    with world.database.begin() as connection:
        changes.keep_test(connection, console("test"), number, result, now_ms=world.clock.now_ms())
        connection.execute(sa.update(book.JOB).values(state="done"))


def test_sizes_are_said_in_units_of_disks() -> None:
    assert [size(count) for count in (0, 999, 1000, 16_384, 1_060_864, -2_000_000_000, 5e12, None)] == [
        "0 B", "999 B", "1 kB", "16.4 kB", "1.06 MB", "−2 GB", "5 TB", "–",
    ]  # fmt: skip


def test_whatever_stands_in_names_is_text_on_these_pages(still: World) -> None:
    with still.database.begin() as connection:
        connection.execute(sa.update(User).where(User.name == "li").values(display_name=EVIL + "名" * 150))
        audit.append(connection, console(EVIL), "user.edit", EVIL, EVIL, at=T0, after={EVIL: EVIL}, note=EVIL)
        keys.create(
            connection, console("x"), name=EVIL, roles=[Role.VIEWER], areas=frozenset({EVIL}), read_only=True,
            expires_at=T0 + 86_400_000 * 3, at=T0,
        )  # fmt: skip
    for path in ("/admin/users", "/admin/users/li", "/admin/keys", "/admin/audit"):
        page = Tags(get(still, path).text)
        assert "<script>alert(1)" in page.text, path
        assert all(str(a.get("src")).startswith("/assets/") for tag, a in page.tags if tag == "script")


def test_a_registry_that_cannot_be_read_leaves_the_pages_and_says_why(world: World) -> None:
    with world.database.begin() as connection:
        for table in ("threshold_change", "audit", "webhook", "user_account", "quarantine"):
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO away_{table}")
    for path in PAGES:
        if path != "/admin/keys":
            said = get(world, path)
            assert said.status_code == 200, path
            assert "no such table" in plain(said.text), path


def test_a_form_without_the_logins_token_changes_nothing(world: World) -> None:
    async def work(boss: Person) -> None:
        boss.token = "guessed"
        before = await boss.look("/admin/audit")
        for path in ("/admin/users", "/admin/users/li/reset", "/admin/keys", "/admin/audit/verify"):
            await boss.post(path, 403, name="x", role="admin", areas="*", days="3")
        assert (await boss.look("/admin/audit")).count("user.") == before.count("user.")

    as_person(world, "boss", Role.ADMIN, work=work)


def test_nobody_is_led_to_the_login(still: World) -> None:
    async def scenario() -> None:
        async with client(still.app, "") as browser:
            answer = await browser.get("/admin/users", headers={"accept": "text/html"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")

    asyncio.run(scenario())
