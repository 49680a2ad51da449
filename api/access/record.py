"""Refusals that somebody should see later stand in the audit; how many one address can write there is limited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Scope

from api.access import origin
from api.access.limits import Buckets
from api.problems import ProblemError, shown
from api.workers import Workers
from metering.clock import Clock
from metering.errors import RegistryError
from registry import audit
from registry.database import Database
from registry.roles import Actor

_LOG: Final = structlog.get_logger("api")
_PER_CALLER_S: Final = 60.0
_PER_CALLER: Final = 5
_ALTOGETHER_PER_S: Final = 1.0
_ALTOGETHER: Final = 100


class Recorder:
    """Writes `access.refused` rows. One caller adds five, then one a minute; all together one a second."""

    def __init__(self, database: Database, *, clock: Clock, workers: Workers) -> None:
        self._database, self._clock, self._workers = database, clock, workers
        self._each = Buckets(per_s=1 / _PER_CALLER_S, burst=_PER_CALLER, clock=clock)
        self._all = Buckets(per_s=_ALTOGETHER_PER_S, burst=_ALTOGETHER, clock=clock, most=1)

    async def refused(
        self, sort: str, scope: Scope, keys: Sequence[str] = (), *, actor: Actor | None = None, note: str = ""
    ) -> None:
        """Record one refusal. sort: key-in-address, bad-key, role, read-only, or what a work order does not allow.

        keys: public parts only. note: the reason in words.

        Never fails: whoever is refused is refused whether or not it can be written down.
        """
        who = actor or Actor("anybody", address=origin.address(scope))
        caller = who.name if actor else origin.network(who.address)
        if self._each.take(f"{sort} {caller}") or self._all.take(""):
            return
        place = f"{scope['method']} {shown(scope['path'])}"

        def inside() -> None:
            with self._database.begin() as connection:
                after = {"reason": sort, "keys": list(keys)} if keys else {"reason": sort}
                at = self._clock.now_ms()
                audit.append(
                    connection, who, "access.refused", "route", place, at=at, after=after, note=shown(note, most=500)
                )

        try:
            await self._workers.run(inside)
        except (RegistryError, SQLAlchemyError, ProblemError) as error:
            _LOG.warning("refusal_not_recorded", reason=sort, by=who.name, address=who.address, error=str(error))
