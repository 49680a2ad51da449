"""Who asks, of which house, and when: what a route needs of its request, in one piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.access.caller import InCaller
from api.house import House, InHouse
from registry.roles import Actor


@dataclass(frozen=True, slots=True)
class Here:
    """One request. now: [ms UTC] when all of it had come."""

    request: Request
    house: House
    caller: Actor
    now: int


async def _here(request: Request, house: InHouse, caller: InCaller) -> Here:
    return Here(request, house, caller, house.clock.now_ms())


InHere = Annotated[Here, Depends(_here)]
