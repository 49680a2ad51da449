"""The one place that gives background jobs what they need in a process of their own."""

from __future__ import annotations

from functools import partial

from api.jobs.words import Materials
from api.jobs.workshop import Workshop
from ingest.settings import StoreSettings
from metergate.settings import Settings
from metergate.stores import make_store
from metering.clock import SystemClock
from metering.store import ReadingStore


def make_workshop(settings: Settings) -> Workshop:
    """Return the room for long work that the settings ask for."""
    materials = Materials(
        settings.registry.url,
        partial(open_store, settings.store),
        settings.anomaly.thresholds,
        billing=settings.billing,
        anchors=settings.audit.anchors,
    )
    return Workshop(settings.jobs, materials)


def open_store(settings: StoreSettings) -> ReadingStore:
    """Return the reading store for a job."""
    return make_store(settings, "read", SystemClock())
