"""All tables of the registry, known to SQLAlchemy once this module is imported."""

from __future__ import annotations

from registry import (
    models_access,
    models_billing,
    models_books,
    models_findings,
    models_jobs,
    models_outbound,
    models_reconcile,
    models_watch,
    models_work_orders,
)
from registry.models import Base

__all__ = [
    "Base",
    "models_access",
    "models_billing",
    "models_books",
    "models_findings",
    "models_jobs",
    "models_outbound",
    "models_reconcile",
    "models_watch",
    "models_work_orders",
]
