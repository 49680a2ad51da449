"""The clerk's month: three exceptions one after another, the close, a delta that somebody else approves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.browser.billing_house import HARMLESS, Town, billing_house
from tests.browser.house import Browser, browser


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with billing_house(tmp_path_factory.mktemp("billing")) as made:
        yield made


@pytest.fixture(scope="module")
def window(town: Town) -> Iterator[Browser]:
    with browser(town.running.address) as opened:
        yield opened


def enter(window: Browser, name: str, language: str = "en", theme: str = "light") -> None:
    window.log_in(name)
    window.faults()  # the login before ended under an open page
    window.prefer(language=language, theme=theme)


def fill(window: Browser, form: str, **fields: str) -> None:
    for name, text in fields.items():
        field = window.one(f"{form} [name={name}]")
        field.clear()
        field.send_keys(text)


def job_done(window: Browser) -> str:
    """Wait on the page of a job until it is over; it renews itself."""
    window.until(lambda: not window.all("progress") and window.all("#on"), deadline_s=90.0)
    return window.text()


def test_the_clerk_works_three_exceptions_and_closes_the_month(town: Town, window: Browser) -> None:
    enter(window, "billing")
    window.asked()
    window.open(f"/billing/{town.period}?district=west")
    window.click("#begin")
    # B-2 used 5 m³ a day: more than 100 in a month
    window.until(lambda: "B-2" in window.words("h1"))
    assert "large use" in window.words(".states")
    assert HARMLESS in window.text()  # whatever an address says, it is text
    window.click("#accept")
    window.until(lambda: "B-3" in window.words("h1"))
    assert "B-2: accepted." in window.text()
    window.click("#reread")
    window.until(lambda: "B-4" in window.words("h1"))
    # B-4 fell silent five days before; somebody went there on the last evening. It had 1070 m³, and uses one a day
    assert "missing" in window.words(".states")
    type_reading(window, town, "x", "Li Si")
    window.until(lambda: "Not done:" in window.text())
    assert window.one("[name=person]").get_attribute("value") == "Li Si"  # what was typed is kept
    assert all("422" in fault for fault in window.faults())  # the browser notes the refusal
    type_reading(window, town, "1075", "Zhang San")
    window.until(lambda: "B-4: the reading is on its way" in window.text())
    assert "That was the last one." in window.text()
    assert town.carry() == 1
    window.open(f"/billing/{town.period}/points/B-4?district=west")
    assert "stored: compute this total again" in window.text()
    window.click("#compute")
    window.until(lambda: "billed" in window.words(".states"))
    window.click(".path a[href*='district=west']")
    window.click("#to-close")
    fill(window, "form.filters", district="west")
    window.click("form.filters button")
    window.until(lambda: "0 are missing and 1 doubtful" in window.text())  # B-3 is still to be read again
    fill(window, "form.deeds", missing="0", doubtful="1", note="B-3 later")
    window.click("#close")
    assert "hash over all totals" in job_done(window)
    window.click("#on")
    window.until(lambda: "4 totals, 0 missing, 1 doubtful" in window.text())
    assert window.asked() == {town.running.address}
    assert window.faults() == []


def type_reading(window: Browser, town: Town, index: str, person: str) -> None:
    when = datetime.fromtimestamp(town.end / 1000, UTC) - timedelta(hours=1)
    window.one("[name=read_at]")
    window.driver.execute_script(
        "document.querySelector('[name=read_at]').value = arguments[0]", f"{when:%Y-%m-%dT%H:%M}"
    )
    fill(window, "form[action$='/readings']", index=index, person=person, note="slip 17")
    window.click("#enter")


def test_an_approver_approves_a_delta_that_he_did_not_make(town: Town, window: Browser) -> None:
    enter(window, "billing")
    window.open(f"/billing/{town.before}/points/B-1")
    fill(window, "form[action$='/adjust']", amount="-600", account="the meter ran fast: test 4711")
    window.click("#adjust")
    window.until(lambda: "it waits for approval" in window.text())
    window.click("a[href^='/billing/deltas/']:not([href$='deltas/'])")
    assert "You proposed it" in window.words("#no-word")
    assert window.all("#approve") == []
    address = window.driver.current_url.removeprefix(town.running.address)
    enter(window, "lead")
    window.open(address)
    window.click("#approve")
    window.until(lambda: "team lead approved" in window.text())
    assert "user:lead" in window.text()
    assert "You have given your word on it." in window.words("#no-word")
    assert "proposed" in window.words(".states")  # above 500 m³: the department's head and the administrator, too


def test_a_viewer_sees_numbers_and_no_button(town: Town, window: Browser) -> None:
    enter(window, "viewer")
    for path in ("/billing", f"/billing/{town.period}"):
        window.open(path)
        assert "missing" in window.text()
        assert window.all("main form") == []
        assert window.all("main a[href*='/points/']") == []
    window.open(f"/billing/{town.period}/points/B-2")
    assert "B-2" not in window.words("main")
    assert HARMLESS not in window.text()


@pytest.mark.parametrize(("language", "theme"), [("zh", "dark"), ("en", "light")])
def test_no_page_of_billing_breaks_the_policy_or_the_rules_of_accessibility(
    town: Town, window: Browser, language: str, theme: str
) -> None:
    enter(window, "billing", language, theme)
    paths = [f"/billing/{town.period}", f"/billing/{town.period}/points/B-2"]
    if language == "zh":
        paths += ["/billing", f"/billing/{town.period}/close?district=west", "/billing/deltas/1", "/jobs"]
    for path in paths:
        window.open(path)
        assert window.violations() == [], path
    assert window.asked() == {town.running.address}
    assert window.faults() == []
