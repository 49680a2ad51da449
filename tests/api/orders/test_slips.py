"""Slips: who takes what along, how much of a customer they show, and that the same stands in HTML and PDF."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pypdf
import pytest
import sqlalchemy as sa

from api.orders import slips
from api.orders.slips import Sheet, TooManyError, masked, sheets
from api.orders.slips_print import to_html, to_pdf
from metering.clock import parse_rfc3339
from registry.database import Database
from registry.models import Latest, Meter, UsagePoint
from registry.models_work_orders import Team, WorkOrder

DAY = date(2026, 3, 20)
NOW = parse_rfc3339("2026-03-20T02:00:00Z")
HOUR = 3_600_000
_ORDER = {
    "place": "UP-1", "usage_point_id": "UP-1", "meter": "G-1", "district": "north", "type": "leak_visit",
    "priority": "soon", "state": "dispatched", "result": "", "opened_at": NOW, "opened_by": "service:anomaly",
    "reason_en": "flow that does not stop", "reason_zh": "持续流量，疑似泄漏", "accepted_at": NOW, "due_rule": "24 h",
    "due_at": NOW + 24 * HOUR, "assignee": "li",
}  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    made.upgrade()
    with made.begin() as c:
        for number in (1, 2):
            facts = {"id": f"UP-{number}", "medium": "gas", "district": "north", "tz": "Asia/Shanghai"}
            c.execute(
                sa.insert(UsagePoint).values(
                    **facts, address=f"幸福路 {number} 号 <b>3-201</b>", account_number=f"6200001234{number}"
                )
            )
        c.execute(
            sa.insert(Meter).values(
                id="G-1", serial="SN9", medium="gas", quantity="volume", inlet="left", profile="example-gas"
            )
        )
        latest = {"quality": "valid", "source": "poll", "values": {"volume": 1_234_500_000}}
        c.execute(sa.insert(Latest).values(meter="G-1", read_at=NOW - HOUR, received_at=NOW - HOUR, **latest))
        c.execute(sa.insert(Team).values(id="crew-2", name="抢修二班", members=["wang"], districts=[], enabled=True))
    yield made
    made.close()


def order(database: Database, **changes: Any) -> None:
    with database.begin() as c:
        c.execute(sa.insert(WorkOrder).values(**(_ORDER | changes)))


def of(database: Database, day: date = DAY, **filters: Any) -> list[Sheet]:
    with database.read() as c:
        return sheets(c, day, **filters)


def test_sheets_by_district_and_worker_the_urgent_first(database: Database) -> None:
    order(database)
    order(database, assignee="crew-2")
    order(database, priority="urgent", due_at=NOW + 30 * HOUR)
    order(database, district="south")
    found = of(database)
    assert [(s.district, s.worker, s.worker_name, [x.number for x in s.slips]) for s in found] == [
        ("north", "crew-2", "抢修二班", [2]),
        ("north", "li", "", [3, 1]),
        ("south", "li", "", [4]),
    ]
    assert [s.district for s in of(database, district="south")] == ["south"]
    assert [s.worker for s in of(database, worker="crew-2")] == ["crew-2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "accepted", "assignee": ""},
        {"state": "finished"},
        {"appointment_at": parse_rfc3339("2026-03-20T16:00:00Z")},  # 00:00 of the 21st in Shanghai
        {"accepted_at": parse_rfc3339("2026-03-20T16:00:00Z")},
    ],
)
def test_what_is_not_for_the_day_is_not_printed(database: Database, changes: dict[str, Any]) -> None:
    order(database, **changes)
    assert of(database) == []


def test_an_appointment_of_the_day_is(database: Database) -> None:
    order(database, appointment_at=parse_rfc3339("2026-03-20T15:59:00Z"))
    assert of(database)[0].slips[0].appointment == "2026-03-20 23:59"


def test_a_slip_shows_what_the_visit_needs_and_of_the_account_four_digits(database: Database) -> None:
    order(database, external_id="a", state="finished")
    order(database, visits=1)
    ((slip,),) = [sheet.slips for sheet in of(database)]
    assert (slip.address, slip.account) == ("幸福路 1 号 <b>3-201</b>", "****2341")
    assert slip.last_index == "1234.5 m³ (2026-03-20 09:00, valid)"
    assert (slip.meter_facts, slip.due, slip.late) == (
        "gas, example-gas, inlet 进气方向 left",
        "2026-03-21 10:00",
        False,
    )
    assert (slip.earlier, slip.visits, slip.type) == (1, 1, "leak visit 漏气抢修")


def test_short_account_numbers_show_nothing() -> None:
    assert [masked(text) for text in ("", "123456", "1234567")] == ["", "****", "****4567"]


def test_the_page_holds_everything_and_no_name_becomes_markup(database: Database) -> None:
    order(database)
    page = to_html(of(database), DAY)
    assert "幸福路 1 号 &lt;b&gt;3-201&lt;/b&gt;" in page
    assert "62000012341" not in page
    assert "持续流量，疑似泄漏" in page
    assert "☐ passed 合格" in page
    assert "<script" not in page
    assert "没有派工单" in to_html([], DAY)


def test_the_pdf_says_the_same_in_both_languages(database: Database) -> None:
    order(database)
    order(database, assignee="crew-2", usage_point_id="UP-2", place="UP-2", meter="")
    made = to_pdf(of(database), DAY)
    read = pypdf.PdfReader(io.BytesIO(made))
    assert len(read.pages) == 2  # a new page for each worker
    text = read.pages[1].extract_text()
    for words in ("漏气抢修", "幸福路", "<b>3-201</b>", "****2341", "1234.5", "flow that does not stop", "合格"):
        assert words in text
    assert "62000012341" not in text
    assert to_pdf(of(database), DAY) == made


def test_a_day_without_slips_is_one_page_that_says_so(database: Database) -> None:
    read = pypdf.PdfReader(io.BytesIO(to_pdf(of(database), DAY)))
    assert "No slips" in read.pages[0].extract_text()


def test_one_long_reason_and_many_slips_still_print(database: Database) -> None:
    for _ in range(30):
        order(database, reason_zh="漏" * 500, reason_en="x" * 500)
    assert len(pypdf.PdfReader(io.BytesIO(to_pdf(of(database), DAY))).pages) > 5


def test_more_than_one_print_takes_are_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slips, "MOST", 2)
    for _ in range(3):
        order(database)
    with pytest.raises(TooManyError, match="choose a district"):
        of(database)
