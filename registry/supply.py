"""Which meter supplies which usage points: a forest of links that follow each other in time, without circles."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.models_books import ImportBatch, ImportRow
from registry.models_reconcile import SupplyLink

CLASSES: Final[Mapping[str, str]] = {"A": "2", "B": "1", "C": "0.5"}
"""Letters of EN 50470-3 (electricity) -> limit of error [%]; other classes are the number itself."""
MOST_LINKS: Final = 200_000
_ROW: Final = ImportRow.__table__
_LINK: Final = SupplyLink.__table__


@dataclass(frozen=True, slots=True)
class Link:
    """child is supplied by parent ("": nobody) from a time [ms UTC] on. line: of a staged file, 0 when it stands."""

    child: str
    parent: str
    since: int
    parent_class: str = ""
    child_class: str = ""
    line: int = 0


def check_class(text: str) -> None:
    """Raises: ValueError for an accuracy class that nobody can make a limit of."""
    limit_of(text)


def limit_of(text: str) -> int | None:
    """Return the limit of error of an accuracy class [10⁻⁶ %], such as 1.5 or B; None for "".

    Source: EN 1359 and EN 12480 (gas, class 1.0 and 1.5), OIML R 49 (water, class 1 and 2), EN 1434 (heat, 2 and 3),
    IEC 62053-21 and -22 and EN 50470-3 (electricity): the class is the limit in the upper range of flow or current.
    """
    if not text:
        return None
    try:
        percent = Decimal(CLASSES.get(text.upper(), text))
    except InvalidOperation:
        percent = Decimal(0)
    if not percent.is_finite() or not Decimal("0.01") <= percent <= 10:
        raise ValueError(f'class "{text}": write a number from 0.01 to 10 [%], such as 1.5, or A, B, C')
    return round(percent * 1_000_000)


def links(connection: Connection) -> list[Link]:
    """Return all links that stand, by child and time."""
    stands = sa.exists().where(ImportBatch.id == _LINK.c.batch_id, ImportBatch.state == "posted")
    rows = connection.execute(sa.select(_LINK).where(stands).order_by(_LINK.c.child_id, _LINK.c.from_at))
    return [Link(r.child_id, r.parent_id, r.from_at, r.parent_class, r.child_class) for r in rows]


def links_of(connection: Connection, usage_point: str) -> list[Link]:
    """Return the links that stand with this usage point at either end, by time."""
    stands = sa.exists().where(ImportBatch.id == _LINK.c.batch_id, ImportBatch.state == "posted")
    either = sa.or_(_LINK.c.parent_id == usage_point, _LINK.c.child_id == usage_point)
    rows = connection.execute(sa.select(_LINK).where(either, stands).order_by(_LINK.c.from_at, _LINK.c.child_id))
    return [Link(r.child_id, r.parent_id, r.from_at, r.parent_class, r.child_class) for r in rows]


def children_between(found: Iterable[Link], start: int, end: int) -> dict[str, list[tuple[Link, int, int]]]:
    """Return parent -> (link, from, to) [ms UTC] of the links that hold somewhere in start <= t < end."""
    by_child: dict[str, list[Link]] = {}
    for link in found:
        by_child.setdefault(link.child, []).append(link)
    out: dict[str, list[tuple[Link, int, int]]] = {}
    for chain in by_child.values():
        chain.sort(key=_since)
        for link, after in zip(chain, [*chain[1:], None], strict=True):
            since, until = max(link.since, start), end if after is None else min(after.since, end)
            if link.parent and since < until:
                out.setdefault(link.parent, []).append((link, since, until))
    return out


def faults(connection: Connection, batch: int) -> list[tuple[int, str, str]]:
    """Return (line, reason, words) of staged links that stand twice or close a circle, with what stands already."""
    staged = _staged(connection, batch)
    if len(staged) > MOST_LINKS:
        raise ValueError(f"more than {MOST_LINKS} links in one file")
    found: list[tuple[int, str, str]] = []
    seen: dict[tuple[str, int], int] = {}
    for link in staged:
        if (first := seen.setdefault((link.child, link.since), link.line)) != link.line:
            found.append((link.line, "twice", f"line {first} links the same usage point from the same time on"))
    twice = {line for line, _, _ in found}
    kept = [link for link in staged if link.line not in twice]
    circles = _circles([*links(connection), *kept])
    found += [(line, "circle", f"the supply would run in a circle: {text}") for line, text in circles.items()]
    return sorted(found)


def _staged(connection: Connection, batch: int) -> list[Link]:
    rows = connection.execute(
        sa.select(_ROW.c.line, _ROW.c.usage_point, _ROW.c.at, _ROW.c["values"])
        .where(_ROW.c.batch_id == batch, _ROW.c.verdict.in_(("ok", "doubt")))
        .order_by(_ROW.c.line)
    )
    return [Link(r.usage_point, r._mapping["values"]["parent"], r.at, line=r.line) for r in rows]


def _circles(found: Sequence[Link]) -> dict[int, str]:
    """Return line -> the circle it closes. It begins with the latest of its links, so each is asked at its time."""
    by_child: dict[str, list[Link]] = {}
    for link in sorted(found, key=_since):
        by_child.setdefault(link.child, []).append(link)
    wrong: dict[int, str] = {}
    for link in found:
        path, here = [link], link.parent
        while here and here != link.child and len(path) < len(found) + 1:
            above = _at(by_child.get(here, []), link.since)
            if above is None:
                break
            path.append(above)
            here = above.parent
            if here in {step.child for step in path[1:]}:
                break  # a circle further up, which has a link of its own to answer for it
        if here == link.child:
            text = " <- ".join(step.child for step in path)[:300]
            wrong |= {step.line: text for step in path if step.line}
    return wrong


def _at(chain: Sequence[Link], moment: int) -> Link | None:
    place = bisect_right(chain, moment, key=_since)
    return chain[place - 1] if place else None


def _since(link: Any) -> int:
    return int(link.since)
