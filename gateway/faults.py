"""Say what is wrong in a file of ours, where it stands: file:line: path = value: what is allowed."""

from __future__ import annotations

from collections.abc import Iterable

from metering.settings import line_of, locate, spell

Place = tuple[str | int, ...]
Fault = tuple[Place, str, str]
"""Place in the file, value found ("" when there is none to show), what is wrong and what is allowed."""


def sentences(faults: Iterable[Fault], text: str, name: str) -> list[str]:
    """Return one line per fault of the TOML `text` that messages call `name`."""
    found = list(faults)
    lines = locate(text) if found else {}
    said = []
    for place, value, why in found:
        line = line_of(place, lines)
        where = f"{name}:{line}" if line else name
        said.append(f"{where}: {spell(place) or 'file'}{f' = {value}' if value else ''}: {why}")
    return said
