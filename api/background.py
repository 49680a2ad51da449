"""What the API does beside answering: the audit's head is anchored, logins that are over and keys of
requests that nobody sends again are swept away, findings open work orders, the flow of each hour is worked out for
the overview.

None of them ever stops the serving: what fails is logged and tried again at the next turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.jobs.workshop import Workshop
from api.orders.service import run_orders
from api.orders.settings import OrderSettings
from api.outbound.service import run_outbound
from api.outbound.settings import OutboundSettings
from api.screens.flow_hours import run_flow
from api.storage import run_sampling
from metering.clock import Clock
from metering.errors import RegistryError
from metering.store import ReadingStore
from registry import billing_keys, sessions
from registry.anchors import keep_anchored
from registry.database import Database
from registry.settings import AuditSettings

_LOG: Final = structlog.get_logger("api")
SWEEP_S: Final = 600.0


@contextlib.asynccontextmanager
async def background(
    database: Database,
    audit: AuditSettings | None,
    clock: Clock,
    orders: OrderSettings | None = None,
    workshop: Workshop | None = None,
    outbound: OutboundSettings | None = None,
    store: ReadingStore | None = None,
) -> AsyncIterator[None]:
    """Work until the block ends. audit: None anchors nothing (a test, a house without a folder). orders: None opens
    no work orders. workshop: None does no jobs. outbound: None sends nothing.
    store: None works out no flow."""
    works = [asyncio.create_task(_sweep(database, clock), name="sweep")]
    if audit is not None:
        anchoring = keep_anchored(database, audit.anchors, clock, audit.anchor_interval_s)
        works.append(asyncio.create_task(anchoring, name="anchors"))
    if orders is not None:
        works.append(asyncio.create_task(run_orders(orders, database, clock), name="orders"))
    if workshop is not None:
        works.append(asyncio.create_task(workshop.run(database, clock), name="jobs"))
    if outbound is not None:
        works.append(asyncio.create_task(run_outbound(outbound, database, clock), name="outbound"))
    if store is not None:
        works.append(asyncio.create_task(run_flow(database, store, clock), name="flow"))
    if store is not None:
        works.append(asyncio.create_task(run_sampling(database, store, clock), name="sizes"))
    for work in works:
        work.add_done_callback(_say_why)
    try:
        yield
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)


async def _sweep(database: Database, clock: Clock) -> None:
    def once() -> None:
        now = clock.now_ms()
        with database.begin() as connection:
            sessions.sweep(connection, now)
            billing_keys.sweep(connection, now)

    while True:
        await clock.sleep(SWEEP_S)
        try:
            await asyncio.to_thread(once)
        except (RegistryError, SQLAlchemyError) as error:
            _LOG.warning("not_swept", error=str(error))


def _say_why(work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _LOG.error("background_ended", work=work.get_name(), exc_info=error)
