"""Keeps this worker's leases: renews them, takes over what is free, gives back what is too much.

Taking over reads from the store and may last longer than a lease, so that it never holds up the renewals. While they
fail (the registry is away), the leases run out by this worker's own monotonic clock, counted from before the renewal
was asked for: it stops by itself before anybody else can begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError

from ingest.holding import Holding
from ingest.pipeline import Pipeline
from ingest.worker import Worker
from metering.clock import Clock
from metering.errors import RegistryError
from registry import leases
from registry.database import Database

_TURNS: Final = 4  # renewals in the time of one lease
_log = structlog.get_logger("ingest")


class PartKeeper:
    """Takes the turns of one worker. `subscribe` and `unsubscribe` are told which parts begin and end."""

    def __init__(
        self,
        worker: str,
        database: Database,
        *,
        clock: Clock,
        lease_s: float,
        subscribe: Callable[[Collection[int]], None],
        unsubscribe: Callable[[Collection[int]], None],
    ) -> None:
        self.holding = Holding((), valid=self._valid)
        self.problem = "no part of the city yet"
        self._worker = worker
        self._database = database
        self._clock = clock
        self._lease_s = lease_s
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._held: dict[int, int] = {}
        self._until = 0.0
        self._thread = Worker("leases")
        self._changes: asyncio.Queue[leases.Turn] = asyncio.Queue()
        self._turning = asyncio.Lock()  # what a turn says of parts that are just given back would be old

    async def run(self, pipeline: Pipeline) -> None:
        """Take turns until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._take_turns())
            tasks.create_task(self._follow(pipeline))

    def close(self, timeout_s: float) -> bool:
        """Give everything back, so that others need not wait for the leases' end; False when that hangs."""
        self._thread.post(partial(self._release, self._held, leave=True))
        return self._thread.close(timeout_s)

    async def _take_turns(self) -> None:
        while True:
            async with self._turning:
                await self._take_turn()
            await self._clock.sleep(self._lease_s / _TURNS)

    async def _take_turn(self) -> None:
        began = self._clock.monotonic()
        try:
            turn = await self._thread.run(self._turn)
        except (RegistryError, DBAPIError) as error:
            self.problem = f"the leases cannot be renewed: {error}"
            return
        self._until = began + self._lease_s
        self._note(turn)

    def _turn(self) -> leases.Turn:
        try:
            return self._one_turn()
        except DBAPIError:
            with self._database.begin() as connection:
                if ended := leases.end_silent(connection):
                    _log.warning("sessions ended that held leases and said nothing", count=ended)
            raise

    def _one_turn(self) -> leases.Turn:
        with self._database.begin() as connection:
            now, lease_ms = self._clock.now_ms(), round(self._lease_s * 1000)
            return leases.turn(connection, self._worker, self._held, now=now, lease_ms=lease_ms)

    def _note(self, turn: leases.Turn) -> None:
        # the surplus counts as held until it is given back, so that its leases live on while it is finished with
        self._held = {**turn.kept, **turn.gained}
        self.problem = "" if self._held else "no part of the city is free for this worker yet"
        if turn.gained or turn.lost or turn.surplus:
            _log.info(
                "parts", gained=len(turn.gained), lost=turn.lost, surplus=len(turn.surplus), held=len(self._held)
            )
            self._changes.put_nowait(turn)

    async def _follow(self, pipeline: Pipeline) -> None:
        """Do what the turns came to, one after the other."""
        while True:
            turn = await self._changes.get()
            if turn.lost:
                await self._stop(pipeline, turn.lost)
            surplus = {part: self._held[part] for part in turn.surplus if part in self._held}
            if surplus:
                await self._stop(pipeline, surplus)
                await self._give_back(surplus)
            gained = {part: token for part, token in turn.gained.items() if self._held.get(part) == token}
            if gained:
                await pipeline.take_over(gained)
                self._subscribe(gained.keys() & self.holding.ready)

    async def _stop(self, pipeline: Pipeline, parts: Collection[int]) -> None:
        self._unsubscribe(parts)
        await pipeline.let_go(parts)

    async def _give_back(self, parts: dict[int, int]) -> None:
        async with self._turning:
            self._held = {part: token for part, token in self._held.items() if part not in parts}
            try:
                await self._thread.run(partial(self._release, parts))
            except (RegistryError, DBAPIError) as error:
                _log.warning("parts not given back", error=str(error))  # their leases end by themselves

    def _release(self, parts: dict[int, int], *, leave: bool = False) -> None:
        with self._database.begin() as connection:
            leases.release(connection, self._worker, parts, leave=leave)

    def _valid(self) -> bool:
        return self._clock.monotonic() < self._until
