"""The kinds of jobs: kind -> "module:function". A room that brings one adds a line (see `api.jobs.words.Work`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from api.jobs.words import JobError, Kind

KINDS: Final[dict[str, str]] = {
    "thresholds.backtest": "api.thresholds:backtest_job",
    "audit.verify": "api.audit_job:verify_job",
    "billing.refresh": "api.jobs.billing:refresh_job",
    "billing.close": "api.jobs.billing:close_job",
    "billing.deltas": "api.jobs.billing:deltas_job",
    "billing.verify": "api.jobs.billing:verify_job",
    "billing.export": "api.jobs.billing:export_job",
    "billing.report": "api.jobs.billing:report_job",
    "billing.reconcile": "api.jobs.billing:reconcile_job",
    "books.preview": "api.jobs.imports:preview_job",
    "books.post": "api.jobs.imports:post_job",
}


def kind_named(kind: str, more: Mapping[str, str]) -> Kind:
    """Return the function of a kind. Raises: JobError when this version does not know it."""
    place = KINDS.get(kind) or more.get(kind)
    if place is None:
        raise JobError(f"this version knows no job {kind!r}")
    module, _, function = place.partition(":")
    found: Kind = getattr(import_module(module), function)
    return found
