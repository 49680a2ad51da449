"""A day of those who administer: somebody new comes in, a threshold is changed, refused rows are decided on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from metering.clock import SystemClock
from registry import audit
from registry.database import Database
from tests.api.process import Served
from tests.browser.field_house import HARMLESS, refuse, tell_of_the_field
from tests.browser.house import PASSWORD, Browser, browser, house

Place = tuple[Served, Database, Browser]
PAGES = (
    "/account",
    "/admin",
    "/admin/users",
    "/admin/users/engineer",
    "/admin/keys",
    "/admin/audit",
    "/admin/thresholds",
    "/admin/outbound?state=all",
    "/admin/storage",
    "/field",
    "/field/gw-1",
    "/field/quarantine",
    "/field/quarantine/1",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        house(tmp_path_factory.mktemp("admin"), jobs=True) as (running, database),
        browser(running.address) as window,
    ):
        tell_of_the_field(database)
        yield running, database, window


def enter(window: Browser, name: str, language: str = "en", theme: str = "light") -> None:
    window.log_in(name)
    window.faults()  # the login before ended under an open page
    window.prefer(language=language, theme=theme)


def fill(window: Browser, **fields: str) -> None:
    """Set fields of the page by name; a date's form depends on the browser's country, so that it is set as it is."""
    for name, text in fields.items():
        field = window.one(f"main [name={name}]")
        if field.get_attribute("type") == "date":
            window.driver.execute_script("arguments[0].value = arguments[1]", field, text)
        else:
            field.clear()
            field.send_keys(text)


def test_somebody_new_gets_a_password_for_one_time_and_sets_up_an_authenticator(place: Place) -> None:
    _, database, window = place
    enter(window, "admin")
    window.open("/admin/users")
    window.click("#new summary")
    fill(window, name="chen", display_name=HARMLESS, areas="*")
    window.click("input[name=role][value=engineer]")
    window.click("#make")
    once = window.words("#secret")
    window.open("/admin/users")
    assert once not in window.driver.page_source
    assert HARMLESS in window.text()  # whatever a name says, it is text
    # chen comes in: nothing but a password of his own
    window.driver.delete_all_cookies()
    window.open("/login")
    window.prefer(language="en", theme="light")
    fill(window, name="chen", password=once)
    window.click("main form button")
    window.until(lambda: window.driver.current_url.endswith("/password"))
    fill(window, old=once, new=PASSWORD, again=PASSWORD)
    window.click("main form button")
    window.until(lambda: not window.driver.current_url.endswith("/password"))
    window.open("/account")
    window.click("#enrol")
    assert window.one("img.qr").size["width"] > 100
    codes = pyotp.TOTP(window.words("#secret").replace(" ", ""))
    now = SystemClock().now_ms() // 1000
    fill(window, code=codes.at(now))
    window.click("#confirm")
    window.until(lambda: "The authenticator is in use." in window.text())
    # from now on the password is not enough
    window.driver.delete_all_cookies()
    window.open("/login")
    fill(window, name="chen", password=PASSWORD)
    window.click("main form button")
    window.until(lambda: window.all(".failed"))
    later = max(now + 30, SystemClock().now_ms() // 1000)  # a code serves once
    fill(window, name="chen", password=PASSWORD, code=codes.at(later))
    window.click("main form button")
    window.until(lambda: "/login" not in window.driver.current_url)
    with database.read() as connection:
        done = {row["action"] for row in audit.records(connection, object_id="chen")}
    assert {"user.create", "user.set_password", "user.totp_enrol", "user.totp_confirm", "user.login"} <= done


def test_a_threshold_is_proposed_tried_on_the_past_and_confirmed_by_another(place: Place) -> None:
    _, _, window = place
    enter(window, "engineer")
    window.open("/admin/thresholds")
    window.click("#new summary")
    day = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).date() + timedelta(days=7)
    fill(window, threshold="leak.min_score", value="9", effective=day.isoformat(), reason="too many night visits")
    window.click("#propose")
    window.click("#backtest")
    # the result comes by itself, with the numbers
    verdict = window.until(lambda: window.all("#verdict")[0].text, deadline_s=120.0)
    assert "of 3 meters." in verdict
    assert window.all("#confirm") == []
    assert "Somebody else must confirm it" in window.text()
    address = window.driver.current_url.removeprefix(window.address)
    enter(window, "supervisor")
    window.open(address)
    window.click("#confirm")
    window.until(lambda: "confirmed, not yet in force" in window.words("#state"))
    assert window.faults() == []


def test_an_engineer_adopts_one_refused_row_and_discards_another(place: Place) -> None:
    _, database, window = place
    good, useless = refuse(database, "foreign_meter", 32), refuse(database, "conflict", 33)
    enter(window, "engineer", theme="dark")
    window.open("/field/quarantine?gateway=gw-2")
    for number, verb in ((good, "adopt"), (useless, "discard")):
        window.click(f"#row-{number} summary")
        window.one(f"#row-{number} input[name=note]").send_keys(f"{verb}: the meter was moved")
        window.click(f"#{verb}-{number}")
        window.until(lambda row=number: window.all(".done") and not window.all(f"#row-{row}"))  # type: ignore[misc]  # one row each
    window.open("/field/quarantine?view=all&gateway=gw-2")
    assert "waits to be sent" in window.words(f"#row-{good}")
    assert "discarded" in window.words(f"#row-{useless}")
    window.open("/field/gw-1")
    assert "A sweep takes 25.2 s" in window.text()
    assert window.faults() == []


def test_a_viewer_finds_no_way_to_any_of_it(place: Place) -> None:
    _, _, window = place
    enter(window, "viewer")
    for path in ("/", "/field", "/field/gw-1"):
        window.open(path)
        window.one("#live")
        links = {link.get_attribute("href").removeprefix(window.address) for link in window.all("a[href]")}
        assert not [link for link in links if link.startswith(("/admin", "/field/quarantine"))], path
        assert not window.all("main form[method=post]")
    for path in ("/admin", "/admin/users", "/field/quarantine"):
        window.open(path)
        assert "403" in window.words(".missing")


@pytest.mark.parametrize(("language", "theme"), [("zh", "dark"), ("en", "light")])
def test_no_page_breaks_the_policy_or_the_rules_of_accessibility(place: Place, language: str, theme: str) -> None:
    running, _, window = place
    for name, pages in (("admin", PAGES), ("engineer", ("/admin/thresholds", "/field/quarantine"))):
        enter(window, name, language, theme)
        for path in pages:
            window.open(path)
            window.one("h1")
            # all in one moment: the page may renew itself between two clicks
            window.driver.execute_script("document.querySelectorAll('details summary').forEach(one => one.click())")
            assert window.violations() == [], f"{path} {language} {theme} {name}"
    assert window.asked() == {running.address}
    assert window.faults() == []
