"""What the outages of a list explain: how many suppressed findings, and the first of them to be unfolded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, in_areas
from api.queries.findings import Filters, list_findings
from api.schemas_findings import FindingOut
from registry.findings_store import FINDING

SHOWN: Final = 10
_MOST_UNFOLDED: Final = 20
"""Parents of one page whose children are fetched; a city that has more outages at once is told their numbers."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Children of one parent. shown: the first of `count`."""

    count: int
    shown: list[FindingOut]


def folded(connection: Connection, parents: Iterable[str], *, areas: Areas) -> dict[str, Folded]:
    """Return the children of those of the findings (by key) that have some."""
    child = FINDING.c
    statement = (
        sa.select(child.parent_key, sa.func.count())
        .where(child.parent_key.in_(sorted(parents)), child.parent_key != "", in_areas(areas, child.district))
        .group_by(child.parent_key)
    )
    counts = {str(key): int(count) for key, count in connection.execute(statement)}
    return {
        key: Folded(count, _first(connection, key, areas) if number < _MOST_UNFOLDED else [])
        for number, (key, count) in enumerate(counts.items())
    }


def _first(connection: Connection, parent: str, areas: Areas) -> list[FindingOut]:
    return list_findings(connection, areas=areas, filters=Filters(parent=parent), limit=SHOWN).items
