"""The caller of a request: put into the scope by `api.access.identify`, taken by routes as `InCaller`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Request

from api.problems import ProblemError, not_found
from registry.roles import Actor

ACTOR: Final = "metergate.actor"
"""Key of the request's scope that holds the `Actor`."""


def caller(request: Request) -> Actor:
    """Return who calls. Raises: ProblemError 401; deny by default, whatever was forgotten elsewhere."""
    actor = request.scope.get(ACTOR)
    if not isinstance(actor, Actor):
        raise ProblemError(401, "not-identified", "send an API key as `Authorization: Bearer …`, or log in")
    return actor


InCaller = Annotated[Actor, Depends(caller)]


def require_area(actor: Actor, district: str, what: str, name: object) -> None:
    """Raise 404 for an object of a district that the caller may not see: its existence is not told either."""
    if not actor.sees(district):
        raise not_found(what, name)
