"""Billing pages: figures worked by hand, roles, nasty names, many exceptions, parts of the house away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from api.screens.billing_work import Worklist, worklist_of
from metering.errors import StoreError
from registry import billing as books
from registry import billing_words
from registry.models import UsagePoint
from registry.roles import Actor, Role
from tests.api.billing_world import END, HOUR, PERIOD, ends, total
from tests.api.routes.test_pages import Tags
from tests.api.world import World, make_key, make_world

ENGLISH = {"accept-language": "en"}
CLERK = Actor("user:somebody", frozenset({Role.BILLING}), areas=None)
EVIL = "<script>alert(1)</script>\"'&"
PAGES = ("/billing", f"/billing/{PERIOD}", f"/billing/{PERIOD}/close", f"/billing/{PERIOD}/points/UP-3",
         f"/billing/{PERIOD}/points/UP-1", "/billing/deltas", "/billing/deltas/1", "/jobs", "/jobs/1")  # fmt: skip


def ask(world: World, path: str, key: str = "", **more: Any) -> httpx.Response:
    return world.get(path, headers={**ENGLISH, **({"authorization": f"Bearer {key}"} if key else {})}, **more)


def text(world: World, path: str, key: str = "") -> str:
    answer = ask(world, path, key)
    assert answer.status_code == 200, answer.text
    return " ".join(Tags(answer.text.replace("<", " <")).text.split())


def test_the_period_shows_counts_read_rate_and_what_is_missing_and_why(world: World) -> None:
    said = text(world, f"/billing/{PERIOD}")
    # UP-1 is billed and closed, UP-3 missing because its gateway was down: one of two was read
    assert "billed 1 / 2 1 of all closed" in said
    assert "missing 1 no total" in said
    assert "Read rate 50.00 % 1 of 2 due" in said
    assert "missing · gateway down · 1" in said
    assert "no class gas 1 1 0 0 100.00 %" in said
    assert "no class electricity 1 0 0 1 0.00 % 100 %" in said
    assert "UP-3 A-UP-3 missing gateway down" in said


def test_a_limited_caller_sees_his_district_alone(world: World) -> None:
    key = make_key(world.database, Role.BILLING, areas=frozenset({"south"}))
    said = text(world, f"/billing/{PERIOD}", key)
    assert "billed 0 / 0" in said
    assert "UP-3" not in said
    assert ask(world, f"/billing/{PERIOD}/points/UP-3", key).status_code == 404
    assert ask(world, "/billing/deltas/1", key).status_code == 404
    assert ask(world, "/jobs/1", key).status_code == 404  # somebody else's
    assert "name one of your districts" in text(world, f"/billing/{PERIOD}/close?district=north", key)


def test_one_total_shows_its_indexes_limits_and_why_nothing_came(world: World) -> None:
    said = text(world, f"/billing/{PERIOD}/points/UP-1")
    for wanted in ("987.5 m³", "1000 m³", "Close 1", "12.5 m³", "1 Hill <b>Road</b>", "Delta 1 -0.5 m³ · proposed"):
        assert wanted in said, wanted
    said = text(world, f"/billing/{PERIOD}/points/UP-3")
    assert "missing gateway down" in said
    assert "gateway gw-2 was away" in said


def test_moments_in_sentences_of_billing_are_told_as_times(world: World) -> None:
    add(
        world, "UP-2", state="doubtful", cause="conflict", detail=f"meter W-0001 at {END} ms: another value", **ends()
    )
    assert "meter W-0001 at 2026-02-20 00:00:00: another value" in text(world, f"/billing/{PERIOD}/points/UP-2")


def test_a_viewer_sees_how_many_and_nobodys_account(world: World) -> None:
    key = make_key(world.database, Role.VIEWER)
    said = text(world, f"/billing/{PERIOD}", key)
    assert "missing · gateway down · 1" in said
    assert "A-UP-3" not in said
    for path in (f"/billing/{PERIOD}/points/UP-3", "/billing/deltas", f"/billing/{PERIOD}/close", "/jobs"):
        assert ask(world, path, key).status_code == 403


def test_the_checklist_says_what_blocks(world: World) -> None:
    add(world, "UP-2", period="2026-01", state="doubtful", cause="large_use", district="south", **ends())
    said = text(world, f"/billing/{PERIOD}/close")
    assert "Period 2026-01 is still open at 1 usage points" in said
    assert "1 are missing and 0 doubtful" in said
    assert "It cannot be closed now" not in said  # keys have no forms; the page of a login says it


def test_whatever_stands_in_names_is_text_and_never_markup(world: World) -> None:
    add(world, "UP-2", state="doubtful", cause="large_use", detail=EVIL, account_number=EVIL, **ends())
    with world.database.begin() as connection:
        connection.execute(sa.update(UsagePoint).values(address=EVIL * 16))
        billing_words.decide(connection, CLERK, "UP-2", PERIOD, "reread", now=END + HOUR, note=EVIL)
        connection.exec_driver_sql("UPDATE billing_delta SET account = ?, cause = ?", (EVIL * 40, "名" * 48))
        connection.exec_driver_sql("UPDATE billing_total SET district = ? WHERE usage_point_id = 'UP-3'", (EVIL,))
        connection.exec_driver_sql("UPDATE job SET title = ?, progress_text = ?", (EVIL * 4, EVIL))
        connection.exec_driver_sql("UPDATE billing_close SET note = ?", (EVIL * 40,))
    shown = 0
    for path in (*PAGES, f"/billing/{PERIOD}/points/UP-2", f"/billing/{PERIOD}?view=reread"):
        page = Tags(ask(world, path).text)
        scripts = [str(attributes.get("src")) for tag, attributes in page.tags if tag == "script"]
        assert all(address.startswith("/assets/") for address in scripts), path
        shown += "alert(1)" in page.text
    assert shown >= 8


def test_ten_thousand_exceptions_come_in_pages_and_each_has_a_next_one(world: World) -> None:
    points = [f"X-{number:05d}" for number in range(10_000)]
    with world.database.begin() as connection:
        facts = {"tz": "UTC", "medium": "gas", "customer_class": "residential", "district": "north"}
        connection.execute(sa.insert(UsagePoint), [{"id": point, **facts} for point in points])
        doubt = {"state": "doubtful", "cause": "large_use", "customer_class": "residential", **ends()}
        version = books.next_version(connection)
        books.save_totals(connection, [total(point, **doubt, version=version) for point in points], [])
    said = ask(world, f"/billing/{PERIOD}?cause=large_use").text
    assert said.count('href="/billing/2026-02/points/X-') == 101  # a hundred, and "begin with the first"
    assert "10000" in text(world, f"/billing/{PERIOD}")
    following = re.search(r'rel="next" href="([^"]+)"', said)
    assert following is not None
    second = ask(world, following[1].replace("&amp;", "&")).text
    assert "X-00100" in second
    assert "X-00099" not in second
    one = ask(world, f"/billing/{PERIOD}/points/X-00099?cause=large_use").text
    assert f'id="next" rel="next" href="/billing/{PERIOD}/points/X-00100?cause=large_use"' in one


def test_an_empty_house_has_pages_too(tmp_path: Path) -> None:
    world = make_world(tmp_path, filled=False)
    for path, wanted in {"/billing": "No totals yet", f"/billing/{PERIOD}": "Everything due is billed",
                         "/billing/deltas": "No delta line", "/jobs": "No background work",
                         f"/billing/{PERIOD}/close": "0 are missing and 0 doubtful"}.items():  # fmt: skip
        assert wanted in text(world, path)
    world.close()


def test_a_store_that_is_away_costs_the_read_rate_and_the_reasons_alone(tmp_path: Path) -> None:
    world = make_world(tmp_path, store=Away())
    said = text(world, f"/billing/{PERIOD}")
    assert "billed 1 / 2" in said
    assert "The read rate cannot be shown now: the store is away" in said
    said = text(world, f"/billing/{PERIOD}/points/UP-3")
    assert "A-UP-3" in said
    assert "Cannot be shown now: the store is away" in said
    world.close()


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def away(*_: Any, **__: Any) -> Any:
            raise StoreError("the store is away")

        return (lambda: None) if name == "close" else away


def test_a_registry_whose_tables_are_gone_is_told_on_every_page(world: World) -> None:
    with world.database.begin() as connection:
        for table in ("billing_total", "billing_delta", "job"):
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_gone")
    for path in PAGES:
        assert "Cannot be shown now" in text(world, path), path


def test_a_worklist_travels_in_a_form_and_foreign_words_narrow_nothing() -> None:
    work = Worklist(view="missing", cause="gateway_down", district="north & south")
    assert worklist_of(work.address()) == work
    for nasty in ("view=x", "a=1", "district=%00", "&" * 9000, "view=todo&" * 50):
        assert worklist_of(nasty) == Worklist()


def add(world: World, point: str, **facts: Any) -> None:
    with world.database.begin() as connection:
        row = total(point, **facts, version=books.next_version(connection))
        books.save_totals(connection, [row], [])
