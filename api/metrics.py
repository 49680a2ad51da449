"""The API's own figures, and those that ingest and the gateways report, as one Prometheus page.

No meter id is ever a label: a city has too many of them for a time-series database of metrics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
PREFIX: Final = "metergate_"

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"\s*(?:,\s*|\Z)')
_ESCAPES: Final = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_FORBIDDEN_LABELS: Final = frozenset({"meter", "meter_id"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of another service. name: without prefix; `…_total` counts up, anything else is a gauge."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class ApiMetrics:
    """Counters of one API process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}api_requests_total",
            "Requests answered, by route and status.",
            ("route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}api_request_seconds",
            "Time from a request's headers to the end of its answer [s].",
            ("route",),
            registry=self.registry,
            buckets=(0.005, 0.02, 0.05, 0.2, 0.5, 2, 10),
        )
        self._refused = Counter(
            f"{PREFIX}api_refused_total",
            "Requests and connections refused before they reached a route, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self.connections = Gauge(f"{PREFIX}api_connections", "Open connections.", registry=self.registry)
        self.in_work = Gauge(f"{PREFIX}api_requests_in_work", "Requests in work now.", registry=self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one answer. route: the pattern, never the address itself."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refuse(self, reason: str) -> None:
        """Count one refusal."""
        self._refused.labels(reason).inc()

    def page(self, reported: Callable[[], Iterable[Sample]]) -> bytes:
        """Return the whole page: our own figures, then the reported ones."""
        other = CollectorRegistry()
        other.register(_Reported(list(reported())))
        return generate_latest(self.registry) + generate_latest(other)


class _Reported(Collector):
    """Turns samples into families; the first sample of a name fixes its label names."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        shapes: dict[str, tuple[str, tuple[str, ...]]] = {}
        seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
        for sample in self._samples:
            base = sample.name.removesuffix("_total")
            keys = tuple(key for key, _ in sample.labels)
            # one name, one kind, one set of labels, one value: anything else is not a valid page
            if shapes.setdefault(base, (sample.name, keys)) != (sample.name, keys) or (base, sample.labels) in seen:
                continue
            seen.add((base, sample.labels))
            if base not in families:
                kind = CounterMetricFamily if base != sample.name else GaugeMetricFamily
                families[base] = kind(PREFIX + base, _help(sample.name), labels=keys)
            families[base].add_metric([value for _, value in sample.labels], sample.value)
        yield from families.values()


def _help(name: str) -> str:
    return f"Reported by {name.partition('_')[0]}."


def parse_labels(text: str) -> tuple[tuple[str, str], ...]:
    """Take 'gateway="g1",kind="crc"' apart, sorted by name. Raises: ValueError, also for a meter's id as a label."""
    labels: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = _LABEL.match(text, position)
        if found is None or found[1] in labels or found[1] in _FORBIDDEN_LABELS:
            raise ValueError(f"not a set of labels: {text!r}")
        labels[found[1]] = re.sub(r'\\["\\n]', lambda escape: _ESCAPES[escape[0]], found[2])
        position = found.end()
    return tuple(sorted(labels.items()))


def is_name(text: str) -> bool:
    """True when Prometheus accepts `text` as the name of a figure."""
    return _NAME.match(text) is not None
