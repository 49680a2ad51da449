"""Take docs/screens anew: `python -m tests.browser.screenshots [FOLDER]`, every page in both languages and themes."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from tests.browser.house import Browser, browser, house, inject, size

FOLDER = Path(__file__).parents[2] / "docs" / "screens"
PAGES = {
    "overview": "/",
    "alarms": "/alarms",
    "alarm": "/alarms/1",
    "meters": "/meters",
    "meter": "/meters/G-0001",
    "field": "/field",
    "orders": "/orders",
    "order": "/orders/1",
    "order-new": "/orders/new",
}
WIDTHS = (1366, 390)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as made,
        house(Path(made)) as (running, database),
        browser(running.address) as window,
    ):
        inject(database)
        window.log_in("operator")
        for language in ("en", "zh"):
            for theme in ("light", "dark"):
                window.prefer(language=language, theme=theme)
                for width in WIDTHS:
                    for name, path in PAGES.items():
                        take(window, path, folder / f"{name}-{language}-{theme}-{width}.png", width)


def take(window: Browser, path: str, file: Path, width: int) -> None:
    """Save one whole page as a picture; fails when something stands wider than the page."""
    size(window.driver, width, 900)
    window.open(path)
    window.one("#live")
    if path.startswith("/meters/"):
        window.one("#charts[data-drawn=true]")
    wide = window.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, f"{path} is {wide} px wide at {width} px"
    height = window.driver.execute_script("return document.documentElement.scrollHeight")
    size(window.driver, width, max(900 if width > 600 else 700, min(height, 4000)))
    shot = window.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    file.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
