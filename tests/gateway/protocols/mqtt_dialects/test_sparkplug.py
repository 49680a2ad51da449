"""Sparkplug metrics become samples."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.protocols.mqtt_dialects import JsonField, Sample
from gateway.protocols.mqtt_dialects.sparkplug import to_samples
from gateway.protocols.sparkplug_b import Value
from gateway.protocols.sparkplug_state import Outcome, Resolved
from metering.errors import FrameError

FIELDS = (
    JsonField("volume_standard", "gas/base_volume"),
    JsonField("valve", "valve_closed"),
    JsonField("flow", "q.l", "l/h"),
)


def _metric(name: str, value: Value, at: int | None = 1000, *, historical: bool = False) -> Resolved:
    return Resolved(name, 10, value, at, historical)


def test_metrics_of_one_time_make_one_sample_and_history_its_own() -> None:
    outcome = Outcome(
        "data",
        "m1",
        (
            _metric("gas/base_volume", Decimal("1243.1116")),
            _metric("valve_closed", True),
            _metric("q.l", 5),
            _metric("unknown", 5),
            _metric("gas/base_volume", Decimal(1200), 500, historical=True),
            _metric("gas/base_volume", None, 600),
        ),
    )
    assert to_samples(outcome, FIELDS) == (
        Sample({"volume_standard": 1_243_111_600, "valve": 1_000_000, "flow": 5_000}, 1000),
        Sample({"volume_standard": 1_200_000_000}, 500, 0, True),
    )


def test_chosen_metric_that_is_no_number_is_refused() -> None:
    for value in ("12.5", b"\x01", Decimal("0.00000001")):
        with pytest.raises(FrameError) as caught:
            to_samples(Outcome("data", "m1", (_metric("gas/base_volume", value),)), FIELDS)
        assert caught.value.sort == "value"
