"""Routes and their lines in the table of roles: that each has one, and which line an address leads to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from api.access.table import TABLE, Who


class TableError(Exception):
    """Routes and table disagree: a fault in the program, found before it serves anybody."""


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield (method, path template) of every route, in their order; HEAD is worked on as GET."""
    for route in iter_route_contexts(app.routes):
        if not route.methods or not route.path:
            raise TableError(f"{route!r} is no plain route: the table of roles cannot tell who may use it")
        yield from ((method, route.path) for method in sorted(route.methods) if method != "HEAD")


def check(app: FastAPI, table: Iterable[tuple[str, str]] = TABLE) -> None:
    """Compare routes and table. Raises: TableError, which names every line that is missing or left over."""
    found, listed = set(routes_of(app)), set(table)
    faults = [f"{method} {path} has no line" for method, path in sorted(found - listed)]
    faults += [f"{method} {path} has a line and no route" for method, path in sorted(listed - found)]
    if faults:
        raise TableError("api/access/table.py: " + "; ".join(faults))


@dataclass(frozen=True, slots=True)
class Found:
    """What an address leads to. path: the template, "" when there is nothing; who: None for an unlisted route."""

    path: str
    who: Who | None
    allowed: bool = True
    """False when the address exists and the method does not."""


NOTHING: Final = Found("", None)


class Resolver:
    """Finds the line of an address in the same order in which the application looks for its route."""

    def __init__(self, app: FastAPI) -> None:
        self._plain: dict[tuple[str, str], Found] = {}
        self._patterns: list[tuple[str, re.Pattern[str], Found]] = []
        for method, path in routes_of(app):
            found = Found(path, TABLE.get((method, path)))
            if "{" in path:
                self._patterns.append((method, compile_path(path)[0], found))
            else:
                self._plain.setdefault((method, path), found)
        self._paths = {path for _, path in self._plain}

    def find(self, method: str, path: str) -> Found:
        """Return the line for a request."""
        if (plain := self._plain.get((method, path))) is not None:
            return plain
        there = path in self._paths
        for listed, pattern, found in self._patterns:
            if pattern.match(path):
                if listed == method:
                    return found
                there = True
        return Found("", None, allowed=False) if there else NOTHING
