"""What a kind of job is made of: what it gets, how it tells of itself, how it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from api.billing.settings import BillingSettings
from metering.errors import MetergateError
from metering.store import ReadingStore
from registry.database import Database
from registry.roles import Actor


class JobError(MetergateError):
    """A job cannot be done; the text is for whoever asked for it."""


@dataclass(frozen=True, slots=True)
class Materials:
    """What every job may use, in a form that another process can be given.

    open_store: a function of a module, or a `functools.partial` of one. thresholds: the file of `anomaly.thresholds`.
    kinds: besides those of `api.jobs.kinds`. billing: the utility's numbers for totals. anchors: the file that holds
    the audit's anchors, None where nothing is anchored.
    """

    database_url: str
    open_store: Callable[[], ReadingStore]
    thresholds: Path | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    billing: BillingSettings = field(default_factory=BillingSettings)
    anchors: Path | None = None


@dataclass(slots=True)
class Work:
    """One job, as its kind's function gets it. now_ms: when it began.

    A function of a kind: `def work(job: Work) -> dict`; what it returns are a few facts for the list. It writes a
    result to `job.result` (name and media type in `job.named`), calls `job.progress(percent, text)` now and then,
    and raises `MetergateError` with words for a person. It is ended at any moment when somebody cancels, so what it
    writes into the registry belongs into one transaction, and the last thing in that transaction is
    `job.settle(connection, facts)`: with it the job is done, whatever happens to its process afterwards, and a job
    that was cancelled before is undone as a whole. `job.actor` has the areas of whoever asked.
    """

    number: int
    args: dict[str, Any]
    actor: Actor
    now_ms: int
    database: Database
    store: ReadingStore
    materials: Materials
    result: Path
    progress: Callable[[int, str], None]
    settle: Callable[[Connection, Mapping[str, Any]], None]
    named: tuple[str, str] = field(default=("", ""))


Kind = Callable[[Work], dict[str, Any]]
