"""Sentences that services stored or answered, in the language of a page.

What a service says is kept as it was said, in English: that is the record. A page shows it in its reader's language
when the sentence is one of the table `said` (`api/pages/texts/{language}/said.toml`: in English the sentence as the
service writes it, with {places}); what no form fits stays as it is, marked as English.

A place that ends in `_at` is a moment, shown in local time; `said` holds a sentence of its own, a place that ends in
`_text` any text. One that is called after a table ("field_cause") holds one of its words, with `_list` behind it
several; any other is without spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Final

from markupsafe import Markup, escape

from api.screens.texts import Texts, catalogue

Time = Callable[[str | int | None], str]
_TABLE: Final = "said."
_MOMENT: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z|\d{13} ms"
_MOMENTS: Final = re.compile(rf"\b(?:{_MOMENT})")
_PLACE: Final = re.compile(r"\{([a-z_0-9]+)\}")
_SIGN: Final = r"\S"
_ENGLISH: Final = re.compile(r"[a-z]{2,} [a-z]+ [a-z]{2,}")
_CHINESE: Final = re.compile(r"[\u4e00-\u9fff]")
_LONGEST: Final = 2000
"""A longer text is no sentence of ours: no form is tried on it."""
_OPEN: Final = frozenset({"said", "field_cause", "field_reason", "billing_cause"})
"""Tables that name what is common; there are more words of that sort (`exception_06`)."""
_MOST: Final = 12
"""Sentences with "; " between them that may belong together."""


@cache
def _forms() -> list[tuple[str, re.Pattern[str]]]:
    """Return (key, form) of all sentences, those with the most fixed letters first."""
    found = [(key, text) for key, text in catalogue("en").items() if key.startswith(_TABLE)]
    found.sort(key=lambda pair: -len(_PLACE.sub("", pair[1])))
    return [(key, re.compile(_form(text), re.DOTALL)) for key, text in found]


def _form(text: str) -> str:
    parts = _PLACE.split(text)
    return "".join(_place(part) if number % 2 else re.escape(part) for number, part in enumerate(parts))


def _place(name: str) -> str:
    if name.endswith("_at"):
        return f"(?P<{name}>{_MOMENT})"
    if name not in _OPEN and (words := _words(name)):
        return f"(?P<{name}>{'|'.join(map(re.escape, words))})"
    free = name == "said" or name.endswith(("_text", "_list"))
    return f"(?P<{name}>{'.' if free else _SIGN}+?)"


@cache
def _words(table: str) -> list[str]:
    """Return the words of a table, the longest first; none when there is no such table."""
    found = [key.partition(".")[2] for key in catalogue("en") if key.startswith(f"{table}.")]
    return sorted(found, key=len, reverse=True)


@lru_cache(maxsize=4096)
def recognised(text: str) -> tuple[str, Mapping[str, str]] | None:
    """Return (key, what stands in its places) of a sentence of a service, None for any other text."""
    if len(text) > _LONGEST:
        return None
    for key, form in _forms():
        if found := form.fullmatch(text):
            return key, found.groupdict()
    return None


def plain(language: str, text: str) -> str:
    """Return what a service said, as `Reader.said` does, without marks: for a script that shows it as text."""
    return Reader(language, str).said(text).striptags()


class Reader(Texts):
    """The texts of one page: those of the catalogue, and what services said."""

    def __init__(self, language: str, time: Time) -> None:
        super().__init__(language)
        self._time = time

    def said(self, text: object, time: Time | None = None) -> Markup:
        """Return a sentence, or several with "; " between them, in the page's language; else marked as English.

        time: how moments are shown, when not in the city's zone. A text of the catalogue stays as it is.
        """
        if time is not None:
            return Reader(self.language, time).said(text)
        whole = str(text or "")
        if self.language == "en":
            return escape(self._timed(whole))
        if (known := self._pieces(whole)) is not None:
            return known
        own = _CHINESE.search(whole) and not _ENGLISH.search(whole)
        return escape(self._timed(whole)) if own else self._english(whole)

    def _pieces(self, whole: str) -> Markup | None:
        """Return several sentences, the longest that are known first; None when none of them is known."""
        left, known, done = whole.split("; "), False, list[Markup]()
        while left:
            for width in range(min(_MOST, len(left)), 0, -1):
                piece = self._translated("; ".join(left[:width]))
                if piece is not None:
                    break
            known = known or piece is not None
            done.append(self._english(left[0]) if piece is None else piece)
            left = left[width:]
        return Markup("；").join(done) if known else None

    def by(self, who: str, note: object) -> Markup:
        """Return a note: a service's in the page's language, a person's as he wrote it."""
        return self.said(note) if who.startswith("service:") else escape(str(note or ""))

    def _translated(self, text: str) -> Markup | None:
        if not text:
            return Markup()
        if (found := recognised(text) or recognised(text.removesuffix("."))) is None:
            return None
        key, values = found
        return Markup(self(key)).format(**{name: self._filled(name, value) for name, value in values.items()})

    def _filled(self, name: str, value: str) -> str:
        """Markup of a sentence is kept by `Markup.format`, any other text is escaped there."""
        if name.endswith("_at"):
            return self._moment(value)
        if name.endswith("_list"):
            return self("said_list.comma").join(
                self.word(name.removesuffix("_list"), one) for one in value.split(", ")
            )
        return self.said(value) if name == "said" else value if name.endswith("_text") else self.word(name, value)

    def _english(self, text: str) -> Markup:
        return Markup('<span lang="en">{}</span>').format(self._timed(text))

    def _timed(self, text: str) -> str:
        return _MOMENTS.sub(lambda found: self._moment(found[0]), text)

    def _moment(self, text: str) -> str:
        try:
            return self._time(int(text[:13]) if text.endswith(" ms") else text)
        except (ValueError, OverflowError):  # 2026-99-99T… in somebody's text
            return text
