"""Services that share a city: each tells which of its gateways are silent, and reads what the others say of theirs.

A district is judged by one service (`Topology.judged`), which hears of the other gateways here; the others take its
word, the open alarm in the registry. What a dead service last said stands until its parts are watched again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from sqlalchemy.engine import Connection

from anomaly.flood_memory import Memory, Others, Watch
from anomaly.topology import Topology
from metering.messages import PARTS, part_of
from registry import findings, watch
from registry.findings_words import OUTAGE


class Neighbours:
    """What one service of some parts says and hears."""

    def __init__(self, parts: Collection[int]) -> None:
        self._parts = frozenset(parts)
        self.alone = len(self._parts) == PARTS
        self._told: dict[int, str] = {}

    def read(self, connection: Connection, topology: Topology) -> Others:
        """Return what the others say now."""
        if self.alone:
            return Others()
        words = watch.silent_told(connection)
        self._told = {part: text for part, text in words.items() if part in self._parts}
        silent: dict[str, Watch] = {}
        for part in words.keys() - self._parts:
            silent |= {name: _watch(*facts) for name, facts in json.loads(words[part]).items()}
        districts = {
            item.district: Watch(item.started_at, item.detected_at, key=item.key, ours=False)
            for item in findings.open_findings(connection, kinds=[OUTAGE])
            if item.key.startswith("outage:district:") and item.district not in topology.judged
        }
        return Others(silent, districts)

    def news(self, memory: Memory) -> Mapping[int, str]:
        """Return what to say of our parts, where it is not said yet: part -> words."""
        if self.alone:
            return {}
        silent: dict[int, dict[str, list[int | None]]] = {part: {} for part in self._told}
        for (scope, name), seen in sorted(memory.watches.items()):
            if scope == "gateway":
                facts = [seen.started_at, seen.since, seen.back_at, seen.silent, seen.members]
                silent.setdefault(part_of(name), {})[name] = facts
        words = {part: json.dumps(own) for part, own in silent.items()}
        return {part: text for part, text in words.items() if self._told.get(part, "{}") != text}


def _watch(started_at: int, since: int, back_at: int | None, silent: int, members: int) -> Watch:
    return Watch(started_at, since, back_at, silent=silent, members=members, ours=False)
