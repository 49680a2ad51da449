"""What flood control remembers from one judgement to the next, and what limits it: see `anomaly.flood`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from anomaly.settings import FloodSettings
from anomaly.topology import Place, Topology
from registry.findings_words import OUTAGE, FindingFacts


@dataclass(frozen=True, slots=True)
class Limits:
    """When a place looks bad.

    quiet_intervals: reading intervals without a reading after which a meter is quiet. quiet_share: of the meters of a
    gateway or bus that must be quiet; fewest_meters: that it must have. gateways_share, fewest_gateways: of a
    district's gateways that must look bad, within together_ms [ms]. settle_ms, grace_ms: see `anomaly.flood`.
    longest_ms: for which a place that is back waits for the rules to let go of the losses of meters that are read.
    """

    quiet_intervals: float = 2.5
    quiet_share: float = 0.8
    fewest_meters: int = 3
    gateways_share: float = 0.6
    fewest_gateways: int = 3
    together_ms: int = 15 * 60_000
    settle_ms: int = 90_000
    grace_ms: int = 2 * 3_600_000
    longest_ms: int = 24 * 3_600_000

    @classmethod
    def of(cls, settings: FloodSettings) -> Limits:
        """As the settings say."""
        return cls(
            settings.quiet_intervals,
            settings.quiet_share,
            settings.fewest_meters,
            settings.gateways_share,
            settings.fewest_gateways,
            *(
                round(seconds * 1000)
                for seconds in (settings.together_s, settings.settle_s, settings.grace_s, settings.longest_s)
            ),
        )


@dataclass(frozen=True, slots=True)
class Watch:
    """A place that looks bad or is coming back. Times [ms UTC].

    started_at: the last moment at which it was well. since: when it was first seen to be bad. back_at: when it was
    first seen to be well again. key: of its own alarm, "" when it has none. silent, members: meters. changed_at: when
    one of these two changed last. ours: False for a district that another service judges.
    """

    started_at: int
    since: int
    back_at: int | None = None
    key: str = ""
    silent: int = 0
    members: int = 0
    changed_at: int = 0
    ours: bool = True

    def counted(self, silent: int, members: int, now_ms: int) -> Watch:
        """The same with new counts."""
        same = (silent, members) == (self.silent, self.members)
        changed_at = self.changed_at if same and self.changed_at else now_ms
        return replace(self, silent=silent, members=members, changed_at=changed_at)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one judgement hands to the next."""

    watches: Mapping[Place, Watch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Others:
    """What the services of other parts say. silent: gateways of theirs that look bad. districts: alarms of districts
    that they judge."""

    silent: Mapping[str, Watch] = field(default_factory=dict)
    districts: Mapping[str, Watch] = field(default_factory=dict)


def resume(topology: Topology, open_facts: Iterable[FindingFacts], now_ms: int) -> Memory:
    """Return the memory of a service that starts, from the parents that the registry holds open."""
    watches: dict[Place, Watch] = {}
    for item in open_facts:
        if item.kind != OUTAGE or not item.key.startswith("outage:"):
            continue
        scope, _, target = item.key.removeprefix("outage:").rpartition(":")[0].partition(":")
        ours = scope != "district" or target in topology.judged
        watches[scope, target] = Watch(item.started_at, now_ms, key=item.key, ours=ours)
        for gateway, district in topology.district_of.items():
            if (scope, target) == ("district", district):
                watches.setdefault(("gateway", gateway), Watch(item.started_at, now_ms))
    return Memory(watches)
