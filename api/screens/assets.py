"""The built scripts of the pages (`make web`): named by their content, so that a browser may keep them for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

BUILT: Final = Path(__file__).parent.parent / "pages" / "built"


@dataclass(frozen=True, slots=True)
class Asset:
    """One script. integrity: "sha384-…" for the page that names it. packed: the same bytes by gzip."""

    name: str
    integrity: str
    body: bytes
    packed: bytes

    @property
    def address(self) -> str:
        """Where the page finds it."""
        return f"/assets/{self.name}"


@cache
def assets(folder: Path = BUILT) -> Mapping[str, Asset]:
    """Return scripts by their short name ("app", "charts"); nothing when they were not built."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        return {short: _load(folder, made["file"], made["integrity"]) for short, made in manifest.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _load(folder: Path, name: str, integrity: str) -> Asset:
    return Asset(name, integrity, (folder / name).read_bytes(), (folder / f"{name}.gz").read_bytes())


def by_file(name: str, folder: Path = BUILT) -> Asset | None:
    """Return the script with that file name; no other file of the folder can be had."""
    return next((asset for asset in assets(folder).values() if asset.name == name), None)
