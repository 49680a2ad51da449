"""The dispatcher's and the worker's day: an urgent leak's order is seen, sent, visited, and teaches its rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.orders.notes import add_note
from api.orders.service import Orders
from api.orders.settings import OrderSettings
from metering.clock import SystemClock
from registry.database import Database
from registry.models_findings import FindingRecord
from registry.models_work_orders import WorkOrder, WorkOrderFinding
from registry.roles import console
from tests.api.orders_world import png
from tests.api.process import Served
from tests.browser.house import Browser, browser, house, inject, size

Place = tuple[Served, Database, Browser]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with house(tmp_path_factory.mktemp("house")) as (running, database), browser(running.address) as window:
        yield running, database, window


def log_in(window: Browser, name: str, *, width: int, language: str, theme: str) -> None:
    size(window.driver, width, 800)
    window.log_in(name)
    window.faults()  # the login before ended under an open page
    window.asked()
    window.prefer(language=language, theme=theme)


def order_of(database: Database, key: str) -> int:
    """The number of the order that a finding opened."""
    with database.read() as connection:
        mine = sa.select(WorkOrderFinding.order_id).join(
            FindingRecord, FindingRecord.id == WorkOrderFinding.finding_id
        )
        return int(connection.execute(mine.where(FindingRecord.key == key)).scalar_one())


def state_of(database: Database, number: int) -> str:
    with database.read() as connection:
        return str(connection.execute(sa.select(WorkOrder.state).where(WorkOrder.id == number)).scalar_one())


def fits(window: Browser) -> bool:
    """True when nothing stands wider than the page."""
    return bool(
        window.driver.execute_script("const d = document.documentElement; return d.scrollWidth <= d.clientWidth")
    )


def test_a_leak_is_sent_visited_and_cleared(place: Place, tmp_path: Path) -> None:
    running, database, window = place
    log_in(window, "dispatcher", width=1366, language="en", theme="light")
    window.open("/orders")
    window.until(lambda: "beat" in told(window))  # the stream has had its first look: what comes now is new to it
    window.driver.execute_script("window.kept = true")
    leak = inject(database)
    Orders(OrderSettings(inspections="off"), database, SystemClock()).turn()  # the policy that ships
    number = order_of(database, leak.key)
    window.until(lambda: window.all(f"#order-{number} .mark.urgent"))
    assert window.driver.execute_script("return window.kept"), "the page was loaded anew"
    assert window.violations() == []

    window.click(f"#order-{number} a")
    window.one("svg rect")
    assert "flow that does not stop" in window.text()
    window.one("select[name=assignee]").send_keys("worker")
    window.click("#dispatch")
    window.until(lambda: "on the way" in window.words("#state"))
    assert window.violations() == []
    assert window.faults() == []

    photo = tmp_path / "valve.png"
    photo.write_bytes(png(40))
    log_in(window, "worker", width=390, language="zh", theme="dark")
    window.open("/orders")
    assert "我的派工单" in window.words("h1")
    window.click(f"#order-{number} a")
    assert fits(window)
    button = window.one("#arrive")
    assert button.size["height"] >= 44  # a thumb in a glove
    assert button.size["width"] > 300
    window.click("#arrive")
    window.until(lambda: "已到场" in window.words("#state"))
    window.click("input[name=result][value=passed]")
    window.click("input[name=label][value=true]")
    window.one("#do-receipt textarea[name=note]").send_keys("接头漏气，已更换 <b>")
    window.one("#do-receipt input[name=photo]").send_keys(str(photo))
    assert window.violations() == []
    assert fits(window)
    window.click("#receipt")
    window.until(lambda: "回执已提交" in window.text())
    assert state_of(database, number) == "finished"
    with database.read() as connection:
        finding = connection.execute(sa.select(FindingRecord).where(FindingRecord.key == leak.key)).one()
    assert (finding.active, finding.state) == (False, "NORM")
    assert window.asked() == {running.address}
    assert window.faults() == []

    log_in(window, "dispatcher", width=1366, language="en", theme="dark")
    window.open(f"/orders/{number}")
    assert "right in" in window.words(".precision")
    window.driver.execute_script("document.querySelector('.photos').scrollIntoView()")  # pictures load when seen
    window.until(lambda: window.one(".photos img").get_property("naturalWidth") == 1)
    assert "接头漏气，已更换 <b>" in window.text()
    assert window.faults() == []


def told(window: Browser) -> set[str]:
    """Names of the events that the page heard since the last call."""
    driver: Any = window.driver  # Selenium's own types lack its log
    said = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return {one["params"]["eventName"] for one in said if one["method"] == "Network.eventSourceMessageReceived"}


COUNT_HELD = """
window.held = 0;
const live = document.getElementById("live"), find = live.querySelector.bind(live);
live.querySelector = (words) => {
  if (words === "form[data-edited]") window.held += 1;
  return find(words);
};
"""
"""Counts how often the page wanted to renew itself and asked first whether somebody types."""


def test_what_is_typed_stays_while_the_order_changes_elsewhere(place: Place) -> None:
    _, database, window = place
    log_in(window, "dispatcher", width=1366, language="en", theme="light")
    window.open("/orders/1")
    window.click("#do-note summary")
    window.one("#do-note textarea").send_keys("half a sentence")
    window.click("h1")  # the field has lost the focus

    def noted() -> bool:
        with database.begin() as connection:
            add_note(connection, console("test"), 1, "from elsewhere", now_ms=SystemClock().now_ms())
        return window.until(lambda: "change" in told(window), deadline_s=0.5)

    window.driver.execute_script(COUNT_HELD)
    window.until(noted)
    window.until(lambda: window.driver.execute_script("return window.held") > 0)
    assert window.one("#do-note textarea").get_property("value") == "half a sentence"
    window.click("#note")
    window.until(lambda: "from elsewhere" in window.text() and "half a sentence" in window.text())


def test_viewer_sees_the_orders_and_no_form(place: Place) -> None:
    _, _, window = place
    log_in(window, "viewer", width=1366, language="en", theme="light")
    for path in ("/orders", "/orders/1"):
        window.open(path)
        window.one("#live")
        assert window.all("form[method=post][action*='/orders']") == []
        assert window.all("a[href='/orders/new']") == []
    assert window.faults() == []
