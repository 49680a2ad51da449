"""What routes need of background jobs: the settings, a bell for the runner, and the file of thresholds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from api.jobs.runner import JobRunner
from api.jobs.settings import JobSettings
from api.jobs.words import Materials
from metering.clock import Clock
from registry.database import Database


@dataclass
class Workshop:
    """materials: None where nothing runs jobs; they wait for another process then."""

    settings: JobSettings = field(default_factory=JobSettings)
    materials: Materials | None = None
    _bell: Callable[[], None] = field(default=lambda: None, repr=False)

    @property
    def thresholds(self) -> Path | None:
        """The file of thresholds that is laid over the built-in ones."""
        return None if self.materials is None else self.materials.thresholds

    def wake(self) -> None:
        """Say that something was queued."""
        self._bell()

    async def run(self, database: Database, clock: Clock) -> None:
        """Do jobs until cancelled."""
        if self.materials is None:
            return
        runner = JobRunner(self.settings, database, self.materials, clock)
        self._bell = runner.wake
        await runner.run()
