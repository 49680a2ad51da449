"""Flood control: a gateway, bus or district that falls silent is one alarm, and explains the silence of its meters.

    judgement = judge(topology, memory, newest_at=…, down_at=…, now_ms=…)
    facts = [*judgement.facts(now_ms), *(replace(loss, parent_key=judgement.parent_of(row)) for row, loss in losses)]
    record(connection, facts, …); memory = judgement.memory        # one transaction: parents and children together

A communication loss with `held[row]` is not recorded yet: its gateway looks bad, and a moment later there may be a
parent. A gateway or bus becomes a parent when it has looked bad for `settle_ms`; a district at once when enough of
its gateways fell silent together. It stays one until the meters that it explains are read again; `grace_ms` after it
came back it lets go of those that are still silent, and they become alarms of their own. A district whose gateways
several services watch is judged by one of them (`Topology.judged`), by what the others say of theirs (`Others`).
Pure: no clock, no database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly.flood_memory import Limits, Memory, Others, Watch
from anomaly.topology import Ints, Place, Topology
from registry.findings_words import OUTAGE, FindingFacts

Flags = NDArray[np.bool_]
KIND: Final = OUTAGE
VERSION: Final = "1"
_LIMITS: Final = Limits()
_NOBODY: Final = Others()
SEVERITY: Final[Mapping[str, str]] = {"bus": "major", "gateway": "major", "district": "critical"}


@dataclass(frozen=True, slots=True)
class Judgement:
    """parents: places with an alarm now. cleared: those whose alarm is over. explained: per meter the number of its
    parent in `parents`, -1 without. held: meters whose communication loss is not recorded yet."""

    topology: Topology
    parents: list[tuple[Place, Watch]]
    cleared: list[tuple[Place, Watch]]
    explained: Ints
    held: Flags
    memory: Memory

    def parent_of(self, row: int) -> str:
        """Return the key of the alarm that explains a meter's silence, "" when none does."""
        number = int(self.explained[row])
        return "" if number < 0 else self.parents[number][1].key

    def facts(self, now_ms: int) -> list[FindingFacts]:
        """What to record of the parents themselves."""
        districts = {place[1]: watch.key for place, watch in self.parents if place[0] == "district"}
        still = [_facts(self.topology, place, watch, districts, None) for place, watch in self.parents if watch.ours]
        return still + [_facts(self.topology, place, watch, {}, now_ms) for place, watch in self.cleared]


def _facts(
    topology: Topology, place: Place, watch: Watch, districts: Mapping[str, str], cleared_at: int | None
) -> FindingFacts:
    scope, _ = place
    gateway, bus, district = topology.where(place)
    return FindingFacts(
        key=watch.key,
        usage_point="",
        meter="",
        kind=KIND,
        rule=f"outage_{scope}",
        rule_version=VERSION,
        severity=SEVERITY[scope],
        started_at=watch.started_at,
        detected_at=watch.since,
        updated_at=cleared_at or max(watch.changed_at, watch.since),
        cleared_at=cleared_at,
        withdrawn_at=None,
        withdrawn_why="",
        repeats=0,
        evidence={"scope": scope, "meters": watch.members, "silent": watch.silent},
        thresholds_version=VERSION,
        gateway=gateway,
        bus=bus,
        district=district,
        parent_key="" if scope == "district" else districts.get(district, ""),
    )


def judge(
    topology: Topology,
    memory: Memory,
    *,
    newest_at: Ints,
    down_at: Mapping[str, int],
    now_ms: int,
    losses: Flags | None = None,
    limits: Limits = _LIMITS,
    others: Others = _NOBODY,
) -> Judgement:
    """Say which places are out as a whole, and which meters that explains.

    newest_at: [ms UTC] newest reading per meter, 0 when it was never read. down_at: gateways that were there and are
    known to be away (last will, health too old), with their own last sign of life [ms UTC]. losses: meters with a
    communication loss that is open, or that the rules, some hours behind, are about to find; so long as they have not
    let go of it again, its parent stays.
    others: what services of other parts say.
    """
    survey = _Survey(topology, memory, newest_at, now_ms, limits, losses)
    gateways = survey.look("gateway", topology.gateways, topology.gateway, down_at)
    bad_gateways = np.array([("gateway", name) in gateways for name in topology.gateways], bool)
    behind = bad_gateways[topology.gateway] & (topology.gateway >= 0) if topology.gateways else survey.never
    buses = survey.look("bus", topology.buses, np.where(behind, -1, topology.bus), {})
    for place, old in memory.watches.items():  # what a bus said before its gateway fell silent still counts
        if place[0] == "bus" and old.key and ("gateway", place[1].partition("/")[0]) in gateways:
            buses[place] = old
    districts = survey.districts(gateways, others)
    for place, watch in (*gateways.items(), *buses.items()):
        covered = ("district", topology.where(place)[2]) in districts
        settled = watch.back_at is None and now_ms - watch.since >= limits.settle_ms
        opens = not watch.key and settled and not covered
        survey.watches[place] = replace(watch, key=_key(place, watch)) if opens else watch
    survey.watches.update(districts)
    return survey.judgement(districts)


def _key(place: Place, watch: Watch) -> str:
    return f"outage:{place[0]}:{place[1]}:{watch.started_at}"


class _Survey:
    """One judgement in the making."""

    def __init__(
        self,
        topology: Topology,
        memory: Memory,
        newest_at: Ints,
        now_ms: int,
        limits: Limits,
        losses: Flags | None,
    ) -> None:
        self.topology, self.before, self.newest_at = topology, memory.watches, newest_at
        self.now_ms, self.limits = now_ms, limits
        self.slack = (limits.quiet_intervals * topology.interval_ms).astype(np.int64)
        self.known = newest_at > 0
        self.quiet = self.known & (now_ms - newest_at >= self.slack)
        self.never = np.zeros(len(topology.meters), bool)
        self.closing = self.never if losses is None else losses & ~self.quiet
        self.watches: dict[Place, Watch] = {}

    def look(self, scope: str, names: list[str], group: Ints, down_at: Mapping[str, int]) -> dict[Place, Watch]:
        """Return the watches of all places of one scope that look bad or are coming back."""
        size = len(names)
        members = _count(group, self.known, size)
        quiet = _count(group, self.quiet, size)
        heard, newest = np.zeros(size, np.int64), np.zeros(size, np.int64)
        inside = self.quiet & (group >= 0)
        np.maximum.at(heard, group[inside], self.newest_at[inside])
        np.maximum.at(newest, group[group >= 0], self.newest_at[group >= 0])
        enough = (members >= self.limits.fewest_meters) & (quiet >= self.limits.quiet_share * members) & (quiet > 0)
        rows = _rows(group, size) if size else []
        found: dict[Place, Watch] = {}
        for number, name in enumerate(names):
            place = (scope, name)
            old = self.before.get(place)
            if name in down_at or enough[number]:
                alive = max(down_at[name], int(newest[number])) if name in down_at else self.now_ms
                started = min(alive, int(heard[number]) if enough[number] else self.now_ms)
                now = Watch(started, self.now_ms) if old is None else replace(old, back_at=None)
                found[place] = now.counted(int(quiet[number]), int(members[number]), self.now_ms)
            elif old is not None and (coming := self._coming_back(place, old, rows[number])) is not None:
                found[place] = coming
        return found

    def _coming_back(self, place: Place, old: Watch, rows: Ints) -> Watch | None:
        """A place that looks well again is watched until its meters are read; one that explained nothing is not."""
        district = ("district", self.topology.where(place)[2])
        if not old.key and district not in self.before:
            return None
        back = self.now_ms if old.back_at is None else old.back_at
        waiting = self.quiet[rows] & (self.newest_at[rows] >= old.started_at - self.slack[rows])
        silent = waiting.any() and self.now_ms - back < self.limits.grace_ms
        closing = self.closing[rows].any() and self.now_ms - back < self.limits.longest_ms
        if not silent and not closing:
            return None
        return replace(old, back_at=back).counted(int(np.count_nonzero(waiting)), old.members, self.now_ms)

    def districts(self, gateways: Mapping[Place, Watch], others: Others) -> dict[Place, Watch]:
        """Return the districts that are out as a whole, or still coming back."""
        found: dict[Place, Watch] = {}
        for district in self.topology.districts:
            if district not in self.topology.judged:
                if (told := others.districts.get(district)) is not None:
                    found["district", district] = replace(told, ours=False)
                continue
            mine, theirs = self.topology.gateways_of[district], self.topology.others_of[district]
            inside = [gateways["gateway", name] for name in mine if ("gateway", name) in gateways]
            inside += [others.silent[name] for name in theirs if name in others.silent]
            watch = self._district(district, inside, len(mine) + len(theirs))
            if watch is not None:
                found["district", district] = watch
        return found

    def _district(self, district: str, inside: Sequence[Watch], gateways: int) -> Watch | None:
        """inside: its gateways that look bad or are coming back. gateways: how many it has."""
        bad = [watch for watch in inside if watch.back_at is None]
        place, old = ("district", district), self.before.get(("district", district))
        if old is None and not self._together(bad, gateways):
            return None
        share = self.limits.gateways_share / 2
        still = len(bad) >= self.limits.fewest_gateways and len(bad) >= share * gateways
        if old is not None and not still and not any(watch.back_at is not None for watch in inside):
            return None
        started = old.started_at if old else min(watch.started_at for watch in bad)
        watch = old or Watch(started, self.now_ms, key=_key(place, Watch(started, self.now_ms)))
        watch = replace(watch, ours=True)
        return watch.counted(sum(w.silent for w in inside), sum(w.members for w in inside), self.now_ms)

    def _together(self, bad: Sequence[Watch], gateways: int) -> bool:
        """True when enough gateways fell silent at about the same time."""
        if len(bad) < self.limits.fewest_gateways:
            return False
        starts = np.array([watch.started_at for watch in bad])
        near = np.count_nonzero(np.abs(starts - np.median(starts)) <= self.limits.together_ms)
        return bool(near >= self.limits.fewest_gateways and near >= self.limits.gateways_share * gateways)

    def judgement(self, districts: Mapping[Place, Watch]) -> Judgement:
        """Put it together: which meter is explained by whom, and which must wait."""
        parents = [(place, watch) for place, watch in self.watches.items() if watch.key]
        number = {place: i for i, (place, _) in enumerate(parents)}
        explained = np.full(len(self.topology.meters), -1, np.int64)
        held = self.never.copy()
        for scope, names, group in (
            ("bus", self.topology.buses, self.topology.bus),
            ("gateway", self.topology.gateways, self.topology.gateway),
        ):
            chosen = np.full(len(names), -1, np.int64)
            started = np.full(len(names), np.iinfo(np.int64).max, np.int64)
            for i, name in enumerate(names):
                if (watch := self.watches.get((scope, name))) is not None:
                    place = (scope, name) if watch.key else ("district", self.topology.where((scope, name))[2])
                    chosen[i], started[i] = number.get(place, -1), watch.started_at
            if names:
                fits = (group >= 0) & self.known & (self.newest_at >= started[group] - self.slack)
                explained = np.where(fits & (chosen[group] >= 0), chosen[group], explained)
                held |= fits & (chosen[group] < 0)
        over = [(place, old) for place, old in self.before.items() if old.key and old.ours and place not in number]
        return Judgement(self.topology, parents, over, explained, held & (explained < 0), Memory(self.watches))


def _count(group: Ints, flags: Flags, size: int) -> Ints:
    return np.bincount(group[flags & (group >= 0)], minlength=size).astype(np.int64)[:size]


def _rows(group: Ints, size: int) -> list[Any]:
    """Rows of each group."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(size + 1))
    return [order[bounds[i] : bounds[i + 1]] for i in range(size)]
