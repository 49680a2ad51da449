"""Take docs/screens anew: `python -m tests.browser.screenshots [FOLDER]`, every page in both languages and themes.

One house serves all of them; the operator takes PAGES, the clerk CLERKS_PAGES, the administrator his.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from tests.browser.billing_house import billing_house
from tests.browser.field_house import refuse, tell_of_the_field
from tests.browser.house import Browser, browser, inject, size

FOLDER = Path(__file__).parents[2] / "docs" / "screens"
PAGES = {
    "overview": "/",
    "alarms": "/alarms",
    "alarm": "/alarms/1",
    "shift": "/shift",
    "meters": "/meters",
    "meter": "/meters/G-0001",
    "meter-why": "/meters/G-0001/why",
    "field": "/field",
    "orders": "/orders",
    "order": "/orders/1",
    "order-new": "/orders/new",
}
CLERKS_PAGES = {
    "billing": "/billing",
    "billing-period": "/billing/{period}",
    "billing-total": "/billing/{period}/points/B-2",
    "billing-close": "/billing/{period}/close?district=west",
    "billing-deltas": "/billing/deltas",
    "billing-delta": "/billing/deltas/1",
    "jobs": "/jobs",
    "job": "/jobs/1",
    "file": "/jobs/imports/1",
}
ADMINISTRATORS_PAGES = {
    "gateway": "/field/gw-1",
    "quarantine": "/field/quarantine",
    "refused-row": "/field/quarantine/1",
    "admin": "/admin",
    "users": "/admin/users",
    "user": "/admin/users/engineer",
    "keys": "/admin/keys",
    "audit": "/admin/audit",
    "thresholds": "/admin/thresholds",
    "threshold-change": "/admin/thresholds/changes/1",
    "notifications": "/admin/outbound?state=all",
    "disk": "/admin/storage",
    "account": "/account",
}
WIDTHS = (1366, 390)
CUT = """
return [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.getAttribute("aria-label") + " " + box.scrollWidth);
"""


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as made,
        billing_house(Path(made)) as town,
        browser(town.running.address) as window,
    ):
        inject(town.database)
        window.open("/login")
        take_all(window, {"login": "/login"}, folder)
        window.log_in("operator")
        take_all(window, PAGES, folder)
        window.log_in("billing")
        make_a_file(window, town.period)
        bring_a_file(window, Path(made))
        take_all(window, {name: path.format(period=town.period) for name, path in CLERKS_PAGES.items()}, folder)
        tell_of_the_field(town.database)
        refuse(town.database, "foreign_meter", 32)
        window.log_in("admin")
        take_all(window, ADMINISTRATORS_PAGES, folder)


def make_a_file(window: Browser, period: str) -> None:
    """Give the page of background work something to show."""
    window.open(f"/billing/{period}")
    window.click("#export")
    window.until(lambda: window.all("#on"), deadline_s=120.0)  # its process begins when the machine has time


def bring_a_file(window: Browser, folder: Path) -> None:
    """Give the page of an imported file its rows: one good, one too large, one that is no number."""
    file = folder / "round.csv"
    file.write_text(
        "meter,read_at,index\nM-B-1,2026-11-20 09:00,1120\nM-B-2,2026-11-20 09:10,9999\nM-B-3,2026-11-20,x\n"
    )
    window.open("/jobs")
    window.one("input[type=file]").send_keys(str(file))
    window.click("#import")
    window.until(lambda: window.all("a[href='/jobs/imports/1']"), deadline_s=120.0)


def take_all(window: Browser, pages: dict[str, str], folder: Path) -> None:
    """Take pages in both languages, both themes and both widths."""
    for language in ("en", "zh"):
        for theme in ("light", "dark"):
            window.prefer(language=language, theme=theme)
            for width in WIDTHS:
                for name, path in pages.items():
                    take(window, path, folder / f"{name}-{language}-{theme}-{width}.png", width)


def take(window: Browser, path: str, file: Path, width: int) -> None:
    """Save one whole page as a picture; fails when something stands wider than the page."""
    size(window.driver, width, 900)
    window.open(path)
    window.one("main h1")
    if path.startswith("/meters/") and not path.endswith("/why"):
        window.one("#charts[data-drawn=true]")
    wide = window.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, f"{path} is {wide} px wide at {width} px"
    cut = window.driver.execute_script(CUT)
    assert not cut, f"{path} at {width} px: cut at the right: {cut}"
    height = window.driver.execute_script("return document.documentElement.scrollHeight")
    size(window.driver, width, max(900 if width > 600 else 700, min(height, 4000)))
    shot = window.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    file.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
