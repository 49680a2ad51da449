"""The page of the API and the files that pages need: everything from here, nothing inline."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tests.api.world import World


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


def named_files(html: str) -> set[str]:
    """Addresses of scripts and styles that a page names."""
    return {
        str(attributes[name])
        for tag, attributes in Tags(html).tags
        if tag in ("link", "script")
        for name in ("src", "href")
        if attributes.get(name)
    }


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/login", "/alarms", "/alarms/1", "/meters", "/meters/G-0001", "/field"]
)
def test_pages_load_only_from_here_and_hold_no_inline_script_or_style(world: World, path: str) -> None:
    answer = world.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy or "script-src" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for tag, attributes in Tags(answer.text).tags:
        for name in ("src", "href", "action", "hx-post", "data-source"):
            target = attributes.get(name)
            assert target is None or re.match(r"(/(?!/)|#)", target), f"<{tag} {name}={target}>"
        assert not any(name.startswith(("on", "hx-on")) or name == "style" for name in attributes)
        assert tag != "style"
        assert tag != "script" or attributes.get("src")


def test_every_file_that_a_page_names_is_served(world: World) -> None:
    for path in named_files(world.get("/docs").text) | {"/style.css"}:
        answer = world.get(path)
        assert answer.status_code == 200
        assert len(answer.content) > 100
        again = world.get(path, headers={"if-none-match": answer.headers["etag"]})
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
        "/assets/manifest.json",
        "/assets/..%2fbase.html",
    ],
)
def test_no_other_file_can_be_had(world: World, path: str) -> None:
    assert world.get(path).status_code == 404
