"""Sparkplug B: metrics that the edge node's state has named become samples; each metric keeps its own time."""

from __future__ import annotations

from decimal import Decimal

from gateway.protocols.mqtt_dialects.messages import Sample
from gateway.protocols.mqtt_dialects.profile import JsonField, micro, rounded
from gateway.protocols.sparkplug_state import Outcome, Resolved
from metering.errors import FrameError
from metering.quantities import MICRO, Quantity


def to_samples(outcome: Outcome, fields: tuple[JsonField, ...]) -> tuple[Sample, ...]:
    """Group an outcome's metrics by time. fields: `path` is the metric's name, dots and all.

    Raises: FrameError, sort "value", when a chosen metric is no number.
    """
    rules = {rule.path: rule for rule in fields}
    moments: dict[tuple[int | None, bool], dict[Quantity, int]] = {}
    for metric in outcome.metrics:
        rule = rules.get(metric.name)
        if rule is not None and metric.value is not None:
            key = (metric.timestamp, metric.historical)
            moments.setdefault(key, {})[rule.quantity] = _value(metric, rule)
    return tuple(Sample(values, time, 0, historical) for (time, historical), values in moments.items())


def _value(metric: Resolved, rule: JsonField) -> int:
    value = metric.value
    if isinstance(value, bool):
        return rule.words.get("true" if value else "false", int(value)) * MICRO
    if isinstance(value, str) and value in rule.words:
        return rule.words[value] * MICRO
    if isinstance(value, (int, Decimal)):
        return micro(rounded(value, rule), rule.factor())
    raise FrameError(f"metric {metric.name[:40]!r} is no number", sort="value")
