"""Slips over the API: whose, in which form, and that a worker gets his own only."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pypdf
import pytest
import sqlalchemy as sa

from registry.models_work_orders import Team, WorkOrder
from registry.roles import Role
from tests.api.world import HOUR, T0, World, make_key, make_world

ADDRESS = "/api/v1/work-orders/slips"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path)
    values = {
        "usage_point_id": "UP-1", "place": "UP-1", "meter": "G-0001", "type": "leak_visit", "priority": "urgent",
        "state": "dispatched", "result": "", "opened_at": T0, "opened_by": "service:orders", "reason_zh": "漏气",
        "reason_en": "leak", "accepted_at": T0, "due_at": T0 + 24 * HOUR, "due_rule": "24 h",
    }  # fmt: skip
    with made.database.begin() as c:
        c.execute(sa.insert(Team).values(id="crew-2", name="二班", members=["li"], districts=[], enabled=True))
        c.execute(sa.insert(WorkOrder).values(**values, district="north", assignee="crew-2"))
        c.execute(sa.insert(WorkOrder).values(**values, district="south", assignee="wang"))
    yield made
    made.close()


def test_the_page_may_run_nothing_and_is_not_kept(world: World) -> None:
    answer = world.get(ADDRESS)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "1 Hill &lt;b&gt;Road&lt;/b&gt;" in answer.text
    assert "crew-2 (二班)" in answer.text
    assert "wang" in answer.text


def test_filters_and_pdf(world: World) -> None:
    answer = world.get(f"{ADDRESS}?date=2026-03-02&district=south&format=pdf")
    assert answer.headers["content-type"] == "application/pdf"
    text = pypdf.PdfReader(io.BytesIO(answer.content)).pages[0].extract_text()
    assert "wang" in text
    assert "crew-2" not in text
    assert "No slips" in world.get(f"{ADDRESS}?date=2026-02-01").text
    assert "wang" not in world.get(f"{ADDRESS}?worker=crew-2").text


@pytest.mark.parametrize("query", ["date=2026-02-30", "date=today", "format=docx", "wroker=li", "worker=a%0Ab"])
def test_odd_questions_are_refused(world: World, query: str) -> None:
    assert world.get(f"{ADDRESS}?{query}").status_code == 422


def test_areas_limit_what_is_printed(world: World) -> None:
    key = make_key(world.database, Role.DISPATCHER, areas=frozenset({"south"}))
    text = world.get(ADDRESS, headers={"authorization": f"Bearer {key}"}).text
    assert "wang" in text
    assert "crew-2" not in text


def test_a_worker_gets_his_own_and_those_of_his_teams(world: World) -> None:
    key = make_key(world.database, Role.WORKER)
    name = key.split(".")[0].split("_")[1]
    with world.database.begin() as c:
        c.execute(sa.update(Team).values(members=[f"mg_{name}", name]))
    text = world.get(ADDRESS, headers={"authorization": f"Bearer {key}"}).text
    assert "crew-2" in text
    assert "wang" not in text
    viewer = make_key(world.database, Role.VIEWER)
    assert world.get(ADDRESS, headers={"authorization": f"Bearer {viewer}"}).status_code == 403
