"""What the routes work with: settings, clock, registry, store, threads, figures, callers. One per application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

from fastapi import Depends, Request
from sqlalchemy.engine import Connection

from api.access.identify import Identifier
from api.access.record import Recorder
from api.command_office import CommandOffice
from api.jobs.workshop import Workshop
from api.metrics import ApiMetrics
from api.orders.settings import OrderSettings
from api.outbound.settings import OutboundSettings
from api.screens.live import Hub
from api.screens.shared import Shared
from api.settings import ApiSettings
from api.workers import Workers
from metering.clock import Clock
from metering.store import ReadingStore
from registry.database import Database
from registry.findings_settings import AlarmSettings
from registry.settings import AccessSettings

T = TypeVar("T")


PLACE: Final = "metergate.place"
"""Key of the request's scope: where the hub of events stood when the request came."""


@dataclass
class House:
    """Everything a route may use."""

    settings: ApiSettings
    database: Database
    store: ReadingStore
    clock: Clock
    metrics: ApiMetrics
    workers: Workers
    access: AccessSettings
    desk: Workers
    """Threads that find out who calls, and nothing else."""
    door: Workers
    """The one thread that checks passwords: slow on purpose, and in nobody's way."""
    identifier: Identifier
    streams: int = 0
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    orders: OrderSettings = field(default_factory=OrderSettings)
    outbound: OutboundSettings = field(default_factory=OutboundSettings)
    recorder: Recorder | None = None
    """Who writes refusals into the audit."""
    command_office: CommandOffice | None = None
    """Who signs commands to gateways; None: this API orders nothing."""
    workshop: Workshop = field(default_factory=Workshop)
    """Long work in the background."""
    shared: Shared = field(init=False)
    """Answers that pages share."""
    hub: Hub = field(init=False)
    """Tells open pages what changed."""

    def __post_init__(self) -> None:
        self.shared = Shared(self.clock)
        self.hub = Hub(
            self.database, clock=self.clock, workers=self.workers, limits=self.settings, access=self.access
        )

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a connection of the registry, in a thread, in one consistent and short transaction."""

        def inside() -> T:
            with self.database.read() as connection:
                return work(connection)

        return await self.workers.run(inside)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one writing transaction, in a thread; committed when it returns, undone when it raises.

        The audit row belongs into the same `work` (`registry.audit.append`). After a 503 "too-slow" the transaction
        may still be committed: routes that must not do a thing twice take an Idempotency-Key.
        """

        def inside() -> T:
            with self.database.begin() as connection:
                return work(connection)

        return await self.workers.run(inside)


def _house(request: Request) -> House:
    house: House = request.app.state.house
    request.scope.setdefault(PLACE, house.hub.place)  # before anything is read for the answer
    return house


InHouse = Annotated[House, Depends(_house)]
