"""All texts of the pages, in two catalogues; no text stands in a template.

A catalogue is `api/pages/texts/{language}.toml` and, for the pages that came with a part of their own, the files of
`api/pages/texts/{language}/`; a table may stand in one file only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

LANGUAGES: Final = ("zh", "en")
FOLDER: Final = Path(__file__).parent.parent / "pages" / "texts"


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return texts by key ("alarms.title"). Raises: ValueError for a table that two files have."""
    tables: dict[str, dict[str, str]] = {}
    for file in (FOLDER / f"{language}.toml", *sorted((FOLDER / language).glob("*.toml"))):
        here = tomllib.loads(file.read_text("utf-8"))
        if twice := tables.keys() & here.keys():
            raise ValueError(f"{file.name}: the table {sorted(twice)[0]} stands in another file too")
        tables.update(here)
    return {f"{table}.{key}": text for table, texts in tables.items() for key, text in texts.items()}


class Texts:
    """The texts of one language, as templates use them."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a text with its {places} filled. Raises: KeyError for a key that no catalogue has."""
        text = self._texts[key]
        return text.format(**values) if values else text

    def word(self, table: str, value: object) -> str:
        """Return the name of a word of ours (a kind, a state); a word that is not listed stays as it is."""
        return self._texts.get(f"{table}.{value}", str(value))


def language_of(chosen: str | None, accept: str) -> str:
    """Return the language of a request: the chosen one, else the first of Accept-Language that we have, else 中文."""
    if chosen in LANGUAGES:
        return str(chosen)
    for part in accept.lower().split(",")[:20]:
        if (tag := part.split(";")[0].strip()[:2]) in LANGUAGES:
            return tag
    return LANGUAGES[0]
