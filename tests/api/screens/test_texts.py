"""Both catalogues have every text, and no text stands in a template."""

from __future__ import annotations

import re
import string
from html.parser import HTMLParser
from pathlib import Path

import pytest

from api.screens.texts import LANGUAGES, Texts, catalogue, language_of
from registry.alarm_states import AlarmEvent, AlarmState
from registry.findings_words import PRIORITIES

PAGES = Path(__file__).parents[3] / "api" / "pages"
TEMPLATES = sorted(path for path in PAGES.glob("*.html") if path.name != "docs.html")
NAMES = {"Metergate", "API", "readyz", "metrics", "English", "中文", "s", "UTC"}


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys_and_places() -> None:
    first, second = (catalogue(language) for language in LANGUAGES)
    assert set(first) == set(second)
    for key in first:
        assert first[key].strip()
        assert places(first[key]) == places(second[key]), key


def test_every_key_that_a_template_names_exists() -> None:
    known = catalogue("en")
    for path in TEMPLATES:
        for key in re.findall(r'\bt\(\s*["\']([a-z_]+\.[a-z_A-Z]+)["\']\s*[,)]', path.read_text("utf-8")):
            assert key in known, f"{path.name}: {key}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_text_stands_in_a_template(path: Path) -> None:
    class Words(HTMLParser):
        found: list[str]

        def handle_data(self, data: str) -> None:
            self.found += re.findall(r"[^\W\d_]+", data)

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            for name, value in attrs:
                if name in ("title", "aria-label", "alt", "placeholder"):
                    self.found += re.findall(r"[^\W\d_]+", value or "")

    bare = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", " ", path.read_text("utf-8"), flags=re.DOTALL)
    reader = Words()
    reader.found = []
    reader.feed(bare)
    assert set(reader.found) <= NAMES


def test_every_word_of_ours_has_a_name() -> None:
    known = catalogue("zh")
    for table, words in (("state", AlarmState), ("event", AlarmEvent), ("priority", PRIORITIES)):
        for word in words:
            assert f"{table}.{word}" in known


def test_a_word_that_nobody_listed_is_shown_as_it_is() -> None:
    assert Texts("en").word("kind", "info_new") == "info_new"


@pytest.mark.parametrize(
    ("chosen", "accept", "language"),
    [
        ("en", "zh-CN", "en"),
        ("xx", "fr, en-GB;q=0.8", "en"),
        (None, "", "zh"),
        (None, "zh-TW,zh;q=0.9,en;q=0.1", "zh"),
    ],
)
def test_the_chosen_language_comes_before_the_browsers(chosen: str | None, accept: str, language: str) -> None:
    assert language_of(chosen, accept) == language
