"""The demo's customers: what their meters may count is written in the books as a utility would."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from anomaly.meters import DEFAULT_QMAX
from metergate.house import KINDS, Kind, build
from metering.quantities import MICRO
from registry.database import Database
from registry.models import Meter
from simulators.consumption import QUARTER_MS, make_curve

MONDAY = 1_768_147_200_000  # 2026-01-11T16:00:00Z, midnight in Shanghai; a cold week


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.prefix)
def test_no_customer_uses_more_than_the_books_say_that_the_meter_can_count(kind: Kind) -> None:
    limit = float(kind.qmax_per_h or DEFAULT_QMAX[kind.medium])
    curve = make_curve(kind.curve, seed=2026, meter=f"{kind.prefix}-0001")
    assert max(curve.flow(MONDAY + quarter * QUARTER_MS) for quarter in range(7 * 96)) < limit * MICRO


def test_the_limits_reach_the_books(tmp_path: Path) -> None:
    house = build(tmp_path / "house", meters=6)
    with contextlib.closing(Database(house.registry_url)) as database, database.read() as connection:
        found = {row.id: row.qmax for row in connection.execute(sa.select(Meter.id, Meter.qmax))}
    assert found["G-FA-0004"] == 400 * MICRO
    assert found["G-HH-0001"] is None
