"""The landing page and the page of the API: everything from here, nothing inline, everything escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from registry import ledger
from tests.api.world import T0, World, make_world


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_landing_page_shows_state_ledger_readings_and_read_rate(world: World) -> None:
    answer = world.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    text = Tags(answer.text).text
    # three meters are due; G-0001 is valid within a day, W-0001 is suspect, E-0001 was never read
    assert "Read rate 抄见率: 33.3 %" in text
    assert "(1 of 3 meters within 24 h)" in text
    assert "4 events · 2 in quarantine" in text
    assert "volume_standard 1011.5 m3" in text
    assert "gw-9" in text
    assert "offline: it left the broker" in text


def test_whatever_stands_in_names_is_text_and_never_markup(world: World) -> None:
    evil = "<script>alert(1)</script>\"'&"
    with world.database.begin() as connection:
        ledger.save_latest(
            connection, [ledger.LatestRow(evil, T0, T0, None, "valid", evil, "poll", 0, {"volume": 1})]
        )
        health = {"outbox": "full", "outbox_reason": evil}
        ledger.save_gateway_status(connection, [ledger.StatusRow("gw-1", health_at=T0 + 86_400_000, health=health)])
    page = Tags(world.get("/").text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) == 4  # as meter, as reason, in the gateway's line and in the state above


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_only_from_here_and_hold_no_inline_script_or_style(world: World, path: str) -> None:
    answer = world.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for tag, attributes in Tags(answer.text).tags:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or re.match(r"/(?!/)", target), f"<{tag} {name}={target}>"
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert tag != "style"
        assert tag != "script" or attributes.get("src")


def test_every_file_that_a_page_names_is_served(world: World) -> None:
    wanted = {
        attributes.get(name)
        for path in ("/", "/docs")
        for tag, attributes in Tags(world.get(path).text).tags
        if tag in ("link", "script")
        for name in ("src", "href")
    } - {None}
    assert len(wanted) == 5
    for path in wanted:
        answer = world.get(str(path))
        assert answer.status_code == 200
        assert len(answer.content) > 100
        again = world.get(str(path), headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_page_of_the_api_understands_the_version_of_our_document(world: World) -> None:
    assert world.get("/openapi.json").json()["openapi"].startswith("3.1.")
    bundle = world.get("/docs/swagger-ui-bundle.js").text
    assert "OpenAPI 3.1" in bundle or "openapi_3_1" in bundle or "isOAS31" in bundle


@pytest.mark.parametrize(
    "path",
    [
        "/docs/../app.py",
        "/docs/%2e%2e/app.py",
        "/docs/..%2f..%2fetc%2fpasswd",
        "/style.css/%2e%2e/x",
        "/docs/home.html",
    ],
)
def test_no_other_file_can_be_had(world: World, path: str) -> None:
    assert world.get(path).status_code == 404


def test_the_landing_page_stands_without_a_registry_and_says_why(tmp_path: object, world: World) -> None:
    with world.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE latest")
    answer = world.get("/")
    assert answer.status_code == 200
    assert "The registry cannot be read now: no such table: latest" in answer.text


def test_an_empty_house_has_a_page_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = make_world(tmp_path_factory.mktemp("empty"), filled=False)
    text = Tags(world.get("/").text).text
    assert "No gateway yet." in text
    assert "Read rate 抄见率: –" in text
    world.close()
