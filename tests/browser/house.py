"""A served house with users who can log in, and a browser that tells what it refused or asked of others."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.reading import Reading
from registry import findings, ledger, passwords, users
from registry.database import Database
from registry.findings_words import FindingFacts
from registry.models import Closing
from registry.models_access import User
from registry.roles import Role, console
from registry.settings import AccessSettings
from tests.api import findings_world
from tests.api.process import Served, served
from tests.api.world import say_ready

T = TypeVar("T")
PASSWORD = "a sentence for the tests"
HOUR = 3_600_000
AXE = Path(__file__).parents[2] / "api" / "pages" / "web" / "node_modules" / "axe-core" / "axe.min.js"


@dataclass
class Browser:
    """One Chromium window, logged in or not."""

    driver: webdriver.Chrome
    address: str

    def open(self, path: str) -> None:
        """Load a page of the house."""
        self.driver.get(self.address + path)

    def text(self) -> str:
        """All that can be read on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def all(self, selector: str) -> list[Any]:
        """Elements by CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        """The first element by CSS selector, waited for."""
        return self.until(lambda: (self.all(selector) or [None])[0])

    def words(self, selector: str) -> str:
        """The text of the first element, looked at anew when the page renewed itself in between."""
        return self.until(lambda: [self.all(selector)[0].text])[0]

    def click(self, selector: str) -> None:
        """Click it; found anew when the page renewed itself in between."""

        def clicked() -> bool:
            self.all(selector)[0].click()
            return True

        self.until(clicked)

    def until(self, look: Callable[[], T], deadline_s: float = 60.0) -> T:
        """Poll until `look` returns something true."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                found = look()
            except Exception:  # noqa: BLE001 (elements go stale while a page is changed; the deadline decides)
                found = None  # type: ignore[assignment]
            if found:
                return found
            assert time.monotonic() < end, f"not seen on {self.driver.current_url}:\n{self.text()}"
            time.sleep(0.05)

    def log_in(self, name: str) -> None:
        """Fill the form as a person would."""
        self.driver.delete_all_cookies()
        self.open("/login")
        self.one("input[name=name]").send_keys(name)
        self.one("input[name=password]").send_keys(PASSWORD)
        self.click("main form button")
        self.until(lambda: "/login" not in self.driver.current_url)

    def prefer(self, *, language: str, theme: str) -> None:
        """Choose by the cookies that /preferences sets."""
        for name, value in (("metergate-language", language), ("metergate-theme", theme)):
            self.driver.add_cookie({"name": name, "value": value, "path": "/"})

    def faults(self) -> list[str]:
        """What the browser's console says since the last call: refusals of the policy, errors of scripts."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def violations(self) -> list[str]:
        """What axe finds serious on this page."""
        self.driver.execute_script(AXE.read_text("utf-8"))
        found: list[str] = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
            ".then(r => done(r.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
            ".map(v => v.id + ': ' + v.nodes.map(n => n.target + ' ' + n.failureSummary).join(' | '))))"
        )
        return found

    def asked(self) -> set[str]:
        """Origins of all requests since the last call."""
        found = set()
        for entry in self.driver.get_log("performance"):
            said = json.loads(entry["message"])["message"]
            if said["method"] == "Network.requestWillBeSent":
                url = said["params"]["request"]["url"]
                if not url.startswith(("data:", "blob:", "chrome")):
                    found.add("/".join(url.split("/", 3)[:3]))
        return found


@contextmanager
def browser(address: str, *, width: int = 1366, height: int = 900) -> Iterator[Browser]:
    """Start Chromium without a screen; it is ended on the way out."""
    options = Options()
    options.binary_location = shutil.which("chromium") or "chromium is missing: see packages-debian.txt"
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_argument("--disable-background-networking")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(60)
        size(driver, width, height)
        yield Browser(driver, address)
    finally:
        driver.quit()


def size(driver: webdriver.Chrome, width: int, height: int) -> None:
    """Show the page at this size [px], also one that no window can be made as narrow as."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@contextmanager
def house(folder: Path, **settings: Any) -> Iterator[tuple[Served, Database]]:
    """Serve the small utility with a present: readings until now, and one user for each role ("operator", …)."""
    with served(folder, rate_burst=100_000, unknown_burst=100_000, tries_burst=1000, **settings) as running:
        database = Database(f"sqlite:///{folder / 'registry.db'}")
        try:
            make_users(database)
            make_present(database, folder)
            yield running, database
        finally:
            database.close()


def make_users(database: Database) -> None:
    """One user for each role, each with the same password; it is worked out once, since that is slow on purpose."""
    now = SystemClock().now_ms()
    hashed = passwords.hash_password(PASSWORD, AccessSettings())
    with database.begin() as connection:
        for role in Role:
            users.create(
                connection,
                console("test"),
                name=str(role),
                display_name="",
                roles=(role,),
                ranks=(),
                areas=None,
                at=now,
            )
        known = {"password_hash": hashed, "one_time": False, "one_time_until": None}
        connection.execute(sa.update(User).where(User.name.in_(list(map(str, Role)))).values(**known))


def make_present(database: Database, folder: Path) -> None:
    """Twenty days of hourly readings of G-0001 until now, with a gap; ingest that has just reported."""
    now = SystemClock().now_ms()
    hour = now // HOUR * HOUR
    rows = [
        Reading("G-0001", hour - age * HOUR, {"volume_standard": index_at(age)}, received_at=hour - age * HOUR + 900)
        for age in range(480, -1, -1)
        if not 30 <= age < 36
    ]
    writer = SqliteStore(folder / "readings.db", mode="write")
    writer.write(rows)
    writer.close()
    days = [(hour - age * 24 * HOUR, index_at(age * 24)) for age in range(80, -1, -1)]
    with database.begin() as connection:
        connection.execute(sa.delete(Closing))
        ledger.save_closings(connection, [_closing(when, index) for when, index in days])
        ledger.save_latest(
            connection,
            [
                ledger.LatestRow(
                    "G-0001", hour, hour + 900, None, "valid", "", "poll", 0, {"volume_standard": index_at(0)}
                )
            ],
        )
        say_ready(connection, now + 600_000)


def index_at(age_h: int) -> int:
    """[micro m³] an index that rises most in the morning and in the evening, and a little by night."""
    return 1_200_000_000 + _rises()[24 * 90 - age_h]


@cache
def _rises() -> list[int]:
    now, index, found = SystemClock().now_ms() // HOUR, 0, []
    for age in range(24 * 90, -1, -1):
        clock = (now - age) % 24
        index += 60_000 if clock < 6 else 420_000 if clock in (7, 8, 18, 19, 20) else 180_000
        index += age * 7919 % 90_000
        found.append(index)
    return found


def _closing(when: int, index: int) -> ledger.ClosingRow:
    day = time.strftime("%Y-%m-%d", time.gmtime(when / 1000))
    return ledger.ClosingRow("G-0001", day, "volume_standard", when, index, "valid")


def inject(database: Database, *, key: str = "UP-1:leak:burst:2", kind: str = "leak") -> FindingFacts:
    """Record a new urgent finding, as the rules would."""
    now = SystemClock().now_ms()
    facts = replace(
        findings_world.leak(now),
        key=key,
        kind=kind,
        started_at=now - HOUR,
        detected_at=now,
        updated_at=now,
    )
    with database.begin() as connection:
        findings.record(connection, [facts], now_ms=now)
    return facts
