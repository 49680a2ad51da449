"""Finds English in pages of another language: three words in a row that are not marked as English."""

from __future__ import annotations

import re
from collections.abc import Collection
from html.parser import HTMLParser
from typing import Final

_WORD: Final = r"[A-Za-z][a-z'’]*"
_THREE: Final = re.compile(rf"\b{_WORD}(?:(?:[ ,;]+|: ){_WORD}){{2,}}\b")
_SPOKEN: Final = ("title", "aria-label", "alt", "placeholder", "data-label")
_VOID: Final = frozenset({"meta", "link", "br", "input", "img", "hr", "rect", "line", "path"})
_RAW: Final = frozenset({"pre", "code", "script", "style"})
"""Bytes as they came, names of settings, secrets: nobody's sentences."""


class Sentences(HTMLParser):
    """Collects what a reader sees or hears outside of elements with lang="en"."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[tuple[str, str]] = []
        self.feed(html)

    @property
    def _language(self) -> str:
        return next((language for _, language in reversed(self._open) if language), "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        if tag not in _VOID:
            self._open.append((tag, facts.get("lang") or ""))
        if self._language != "en":
            self.texts += [value for name in _SPOKEN if (value := facts.get(name))]

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._language != "en" and not any(tag in _RAW for tag, _ in self._open):
            self.texts.append(" ".join(data.split()))


def english(html: str, allowed: Collection[str] = ()) -> list[str]:
    """Return pieces of text with three English words in a row, after what is allowed was taken out."""
    found = []
    for text in Sentences(html).texts:
        left = text
        for piece in sorted(allowed, key=len, reverse=True):
            left = left.replace(piece, "")
        if _THREE.search(left):
            found.append(text)
    return found
