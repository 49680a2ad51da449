"""Every route and who may use it, written by hand: a route that is not listed here answers 403 to everybody.

`tests/api/access/routes.toml` says the same a second time, written independently; a test compares the two with what
the running application does. `create_app` refuses an application whose routes and this table disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from registry.roles import Role


class Open(Enum):
    """Rules that are not roles."""

    ANYBODY = "anybody"
    """Whoever can reach the port: the login, and what its page needs."""
    ANY_USER = "any user"
    """Whoever is known, whatever the roles: one's own session."""
    ON_LOOPBACK = "on loopback"
    """Anybody who asks this machine from this machine; else whoever may look."""


Who = frozenset[Role] | Open

ANYBODY: Final = Open.ANYBODY
ANY_USER: Final = Open.ANY_USER
OPEN_ON_LOOPBACK: Final = Open.ON_LOOPBACK

LOOK: Final = frozenset(Role) - {Role.WORKER}
"""Readings, meters, gateways, events; a field worker sees what work orders show."""
REFUSED_ROWS: Final = frozenset({Role.OPERATOR, Role.ENGINEER, Role.SUPERVISOR, Role.ADMIN})
"""Bytes that ingest refused."""
ADMINS: Final = frozenset({Role.ADMIN})
AUDITORS: Final = frozenset({Role.ADMIN, Role.SUPERVISOR})

TABLE: Final[dict[tuple[str, str], Who]] = {
    # what watches the house
    ("GET", "/livez"): OPEN_ON_LOOPBACK,
    ("GET", "/readyz"): OPEN_ON_LOOPBACK,
    ("GET", "/metrics"): OPEN_ON_LOOPBACK,
    # pages
    ("GET", "/"): ANY_USER,
    ("GET", "/docs"): ANY_USER,
    ("GET", "/docs/start.js"): ANY_USER,
    ("GET", "/docs/swagger-ui.css"): ANY_USER,
    ("GET", "/docs/swagger-ui-bundle.js"): ANY_USER,
    ("GET", "/docs/favicon.png"): ANYBODY,
    ("GET", "/style.css"): ANYBODY,
    ("GET", "/openapi.json"): ANY_USER,
    # meters and readings
    ("GET", "/api/v1/meters"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}/latest"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}/readings"): LOOK,
    ("GET", "/api/v1/meters/{meter_id}/closings"): LOOK,
    ("GET", "/api/v1/latest"): LOOK,
    ("GET", "/api/v1/gateways"): LOOK,
    ("GET", "/api/v1/gateways/{gateway_id}"): LOOK,
    ("GET", "/api/v1/events"): LOOK,
    ("GET", "/api/v1/quarantine"): REFUSED_ROWS,
    ("GET", "/api/v1/quarantine/{number}"): REFUSED_ROWS,
    ("GET", "/api/v1/quarantine/{number}/raw"): REFUSED_ROWS,
}


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
