"""What a recorded bus or broker came to while it was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.plan import Plan
from metering.reading import Row


@dataclass
class Live:
    """What the poll brought, or the messages, while it was recorded."""

    plan: Plan
    rows: list[Row]
    counts: list[dict[str, Any]]
    recordings: list[Path]
