"""The meters of some parts of the city under judgement: loaded, followed, and their findings recorded.

Blocking work, done in one thread of `anomaly.service`. What a kill at any moment means:

- Before `record` commits: nothing was told. The next start reads from the same `judged_at` and the same place in the
  log, finds the same again at the same moments, and names it the same.
- After it: findings, what the rules remember of them, `judged_at` and the place in the log are there together.

Rows that arrived shortly before `judged_at`, or were touched behind the place in the log, are taken as new once more:
what they say is known by its name, so it is not told twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from anomaly import flood, flood_memory, memory
from anomaly.books import Books, gateways_away, read_books
from anomaly.days import DAY_S
from anomaly.engine import Engine, EngineShape
from anomaly.feed import Feed, Spans, pending
from anomaly.files import Readings, joined
from anomaly.findings import RULES, Finding
from anomaly.neighbours import Neighbours
from anomaly.run import TIMER_S, next_timer
from anomaly.settings import AnomalySettings
from anomaly.thresholds import Thresholds, load_thresholds
from anomaly.watch import Watch
from metering.clock import Clock
from metering.messages import PARTS, part_of
from metering.store import ReadingStore
from registry import findings as registry_findings
from registry import maintenance, watch
from registry.database import Database
from registry.findings_settings import AlarmSettings
from registry.findings_words import Change, FindingFacts

MARGIN_S: Final = 900
"""[s] rows that arrived so shortly before `judged_at` are taken as new at a start."""
LOG_MARGIN_MS: Final = 60_000
"""[ms] two ingest workers may commit lines of the log out of order for so long."""
FLOOD_KINDS: Final = ("info_outage",)


class StoppedError(Exception):
    """The service ends; a long start is given up."""


@dataclass(slots=True)
class Loaded:
    """Everything that was made of one look at books and store."""

    books: Books
    feed: Feed
    engine: Engine
    watch: Watch
    saved: memory.Saved
    flood: flood_memory.Memory


class City:
    """One service's parts. `counters` are for the metrics; `evaluated_ms` is when judging last went through."""

    def __init__(
        self,
        settings: AnomalySettings,
        *,
        database: Database,
        store: ReadingStore,
        clock: Clock,
        alarms: AlarmSettings | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings, self.alarms = settings, alarms or AlarmSettings()
        self.counters: Counter[str] = Counter(heartbeats_total=0, heartbeats_failed_total=0)
        self.evaluated_ms = 0
        self.changes: list[Change] = []
        """What became of findings, newest last; whoever notifies reads and empties it."""
        self._database, self._store, self._clock, self._stopping = database, store, clock, stopping
        self._parts = settings.parts or tuple(range(PARTS))
        self._base: Thresholds = load_thresholds(settings.thresholds)
        self._tokens: dict[int, int] = {}
        self._now: Loaded | None = None
        self._seen: dict[int, int] = {}
        self._log = 0
        self._read_ms = 0
        self._fired = False
        """A timer was fired and what the rules remember since is not recorded yet."""
        self._recorded = 0, 0
        """How far all is judged [s since 1970] and read by what the registry holds: where another load begins."""
        self._unsaved: dict[str, tuple[Finding, int]] = {}
        self._parents: dict[str, str] = {}
        self._judgement: flood.Judgement | None = None
        self._limits = flood_memory.Limits.of(settings.flood)
        self._neighbours = Neighbours(self._parts)
        self._flood_at = self._renew_at = self._load_s = 0.0

    # --- start -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Claim the parts and rebuild everything from books and store.

        Raises: PartTakenError, RegistryError, StoreError; SettingsError when the books name no meter of ours yet.
        """
        began = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        with self._database.begin() as connection:
            progress = watch.claim(
                connection,
                self.settings.instance,
                self._parts,
                now=now_ms,
                lease_ms=round(self.settings.lease_s * 1000),
            )
        self._tokens = {part: known.token for part, known in progress.items()}
        judged = [known.judged_at for known in progress.values() if known.judged_at]
        logs = [known.log for known in progress.values() if known.judged_at]
        self._recorded = min(judged, default=0) // 1000, min(logs, default=0)
        self._load(*self._recorded)
        self._load_s = self._clock.monotonic() - began
        self.counters["loads_total"] += 1

    def _load(self, judged_s: int, log: int) -> None:
        now_s = self._clock.now_ms() // 1000
        if not judged_s:
            judged_s = next_timer(now_s - int(self.settings.first_look_h * 3600)) - TIMER_S
        judged_s = max(judged_s, next_timer(now_s - int(self.settings.catch_up_days * DAY_S)) - TIMER_S)
        since_s = now_s - self.settings.history_days * DAY_S
        with self._database.read() as connection:
            books = self._read_books(connection, now_s)
            last = watch.last_number(connection)
            late = watch.changes_since(connection, log) if log else []
            bodies = watch.load_memory(connection, self._parts)
            outages = registry_findings.open_findings(connection, kinds=FLOOD_KINDS)
        engine = self._engine(books, since_s)
        feed = Feed.of(self._store, books.places)
        fresh = self._absorb(engine, feed, feed.spans(late), since_s, now_s, judged_s)
        known = [finding for body in bodies.values() if (finding := memory.finding_from(engine, books.places, body))]
        engine.resumed(sorted(known, key=lambda f: (f.detected_s, f.row, f.kind)), judged_s)
        saved = memory.Saved(int(books.thresholds.number("engine.repeat_days") * DAY_S))
        saved.known(known)
        mine = [item for item in outages if self._ours(books, item)]
        self._now = Loaded(
            books,
            feed,
            engine,
            Watch(engine, judged_s),
            saved,
            flood_memory.resume(books.topology, mine, now_s * 1000),
        )
        self._log, self._seen, self._read_ms = last, {}, now_s * 1000
        self._parents = {key: parent for key, parent in self._parents.items() if key not in self._unsaved}
        self._unsaved = {}  # of the engine before: this one finds again what was not recorded
        self._flood_at = 0.0
        self._follow(self._now, fresh, now_s)

    def _read_books(self, connection: Any, now_s: int) -> Books:
        since = (now_s - self.settings.history_days * DAY_S) * 1000
        parts = self.settings.parts or None
        return read_books(connection, since, (now_s + DAY_S) * 1000, parts=parts, thresholds=self._base)

    def _engine(self, books: Books, since_s: int) -> Engine:
        meters = len(books.places.table)
        shape = EngineShape(
            feature_days=self.settings.history_days * 4 // 3 + 8,
            dtype=np.float64 if meters < self.settings.compact_from else np.float32,
            lead_days=1,
        )
        return Engine(books.places.table, books.thresholds, start_s=since_s, shape=shape, quick=self.settings.quick)

    def _absorb(
        self, engine: Engine, feed: Feed, spans: Spans, since_s: int, now_s: int, judged_s: int
    ) -> Readings | None:
        """Rebuild the state at `judged_s`; return the rows that arrived after it, or were never judged."""
        fresh = []
        for end, rows in feed.days(since_s, now_s + DAY_S):
            if self._stopping():
                raise StoppedError
            new = (rows.received > judged_s - MARGIN_S) | pending(rows, feed.places, spans)
            old = rows.take(~new)
            fresh.append(rows.take(new))
            self.counters["rows_read_total"] += len(rows)
            engine.absorb(
                old.meter, old.ts, old.received, old.micro, old.flags, upto_s=min(end, now_s), now_s=judged_s
            )
        kept = [part for part in fresh if len(part)]
        return joined(kept) if kept else None

    @staticmethod
    def _ours(books: Books, item: FindingFacts) -> bool:
        return item.gateway in books.topology.district_of or (
            not item.gateway and item.district in books.topology.districts
        )

    # --- one look --------------------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Take what ingest stored since the last look, judge, and record; True when there was something."""
        assert self._now is not None
        now_ms = self._clock.now_ms()
        if now_ms - self._read_ms > watch.TRUST_MS:
            self._load(*self._recorded)  # what it missed stands in the log no more
            self.counters["loads_total"] += 1
        here = self._now
        with self._database.read() as connection:
            lines = watch.changes_since(connection, self._log, self._seen)
        rows = here.feed.touched(lines)
        self._follow(here, rows, now_ms / 1000)
        self._note_log(lines, now_ms)
        self._read_ms = now_ms
        if self._fired:
            self._go_on(here, now_ms)
        due = self._clock.monotonic() >= self._flood_at
        if due:
            self._survey(here, now_ms)
        if due or self._fired or self._unsaved or self._clock.monotonic() >= self._renew_at:
            self._record(here, now_ms, fired=self._fired)
        self.evaluated_ms = now_ms
        return bool(lines)

    def _follow(self, here: Loaded, rows: Readings | None, asked_s: float) -> None:
        """asked_s: [s since 1970] when log and store were asked: what came since is not known, for all it took."""
        began = self._clock.monotonic()
        self._fired |= here.watch.take(rows, int(asked_s - self.settings.settle_s))
        for finding, at_s in here.watch.drain():
            if finding.row >= 0:  # districts are judged by the flood control
                self._unsaved[memory.key_of(finding)] = finding, at_s
        self.counters["rows_total"] += 0 if rows is None else len(rows)
        self.counters["evaluation_microseconds_total"] += round((self._clock.monotonic() - began) * 1e6)

    def _note_log(self, lines: Sequence[watch.Change], now_ms: int) -> None:
        self._seen.update({line.number: line.at for line in lines})
        settled = [number for number, at in self._seen.items() if at < now_ms - LOG_MARGIN_MS]
        self._log = max([self._log, *settled])
        self._seen = {number: at for number, at in self._seen.items() if number > self._log}

    def _go_on(self, here: Loaded, now_ms: int) -> None:
        """What a receipt of the field has cleared, and the rules still hold when they have forgotten that day."""
        held = {
            key: finding
            for rule in here.engine.book.by_rule
            for finding in here.engine.book.open_of(rule)
            if finding.row >= 0 and (key := memory.key_of(finding)) not in self._unsaved
        }
        with self._database.read() as connection:
            cleared = registry_findings.cleared_at(connection, list(held))
        for key, at_ms in cleared.items():
            finding = held[key]
            if finding.held_s >= at_ms / 1000 + RULES[finding.rule].memory_h * 3600:
                finding.repeats += 1
                self._unsaved[key] = finding, now_ms // 1000

    # --- places that are out as a whole ----------------------------------------------------------------------------

    def _survey(self, here: Loaded, now_ms: int) -> None:
        with self._database.read() as connection:
            away = gateways_away(connection, now_ms, self.settings.gateway_stale_s)
            others = self._neighbours.read(connection, here.books.topology)
        meters = len(here.books.topology.meters)
        losses = here.engine.silence.coming() if here.flood.watches else np.zeros(meters, bool)
        losses[[finding.row for finding in here.engine.book.open_of("comms_loss")]] = True
        self._judgement = flood.judge(
            here.books.topology,
            here.flood,
            newest_at=np.where(here.engine.silence.until_s > now_ms // 1000, here.feed.newest_at, 0),  # still there
            down_at={name: at for name, at in away.items() if name in here.books.topology.district_of},
            now_ms=now_ms,
            losses=losses,
            limits=self._limits,
            others=others,
        )
        self._flood_at = self._clock.monotonic() + self.settings.flood_s
        for finding in here.engine.book.open_of("comms_loss"):
            key = memory.key_of(finding)
            if self._parents.get(key) != self._judgement.parent_of(finding.row):  # after a start none is known
                self._unsaved.setdefault(key, (finding, now_ms // 1000))

    def _facts(self, here: Loaded, now_ms: int) -> tuple[list[FindingFacts], dict[str, tuple[Finding, int]]]:
        """Return what to record now, and what waits for the word of the flood control."""
        facts, waiting = [], {}
        if self._judgement is not None:
            facts += self._judgement.facts(now_ms)
        for key, (finding, at_s) in self._unsaved.items():
            parent = ""
            if finding.kind == "comms_loss" and finding.open and self._judgement is not None:
                if bool(self._judgement.held[finding.row]):
                    waiting[key] = finding, at_s
                    continue
                parent = self._judgement.parent_of(finding.row)
            self._parents[key] = parent
            facts.append(
                memory.facts_of(
                    finding,
                    at_s,
                    usage_point=here.books.places.usage_points[finding.row],
                    wiring=here.books.wiring.get(finding.meter_id, {}),
                    parent_key=parent,
                )
            )
        return facts, waiting

    # --- the registry ----------------------------------------------------------------------------------------------

    def _record(self, here: Loaded, now_ms: int, *, fired: bool) -> None:
        """One transaction: findings, what the rules remember, how far all is judged and read. Renews the parts."""
        facts, waiting = self._facts(here, now_ms)
        findings = [finding for finding, _ in self._unsaved.values()]
        if fired:
            findings += [finding for rule in here.engine.book.by_rule for finding in here.engine.book.open_of(rule)]
        news = here.saved.news(findings)
        bodies = {
            key: (self._part(here, finding), memory.body_of(here.engine, finding)) for key, finding in news.items()
        }
        # a loss that waits is found again by the next start, if it comes to that
        bodies = {key: body for key, body in bodies.items() if key not in waiting}
        stale = here.saved.stale(now_ms // 1000) if fired else []
        with self._database.begin() as connection:
            watch.save_progress(
                connection,
                self.settings.instance,
                self._tokens,
                expires_at=now_ms + round(self.settings.lease_s * 1000),
                judged_at=here.watch.judged_s * 1000,
                log=self._log,
            )
            changes = registry_findings.record(connection, facts, now_ms=now_ms, settings=self.alarms)
            changes += maintenance.expire(connection, now_ms)
            watch.save_memory(connection, bodies)
            watch.forget_memory(connection, stale)
            if self._judgement is not None:
                watch.tell_silent(connection, self._neighbours.news(self._judgement.memory))
        self._recorded, self._fired = (here.watch.judged_s, self._log), self._fired and not fired
        here.saved.saved({key: finding for key, finding in news.items() if key not in waiting})
        if self._judgement is not None:
            here.flood, self._judgement = self._judgement.memory, replace(self._judgement, cleared=[])
        self._unsaved = waiting
        self._parents = {key: parent for key, parent in self._parents.items() if key not in stale}
        self._renew_at = self._clock.monotonic() + self.settings.lease_s / 3
        for change in changes:
            self.counters[f"changes_total:{change.sort}"] += 1
        self.changes = [*self.changes, *changes][-10_000:]

    @staticmethod
    def _part(here: Loaded, finding: Finding) -> int:
        return part_of(here.books.wiring.get(finding.meter_id, {}).get("gateway", ""))

    # --- changes of the books --------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Take over new meters, exchanges and thresholds: what is judged stays judged, the rest is rebuilt."""
        assert self._now is not None
        here, now_ms = self._now, self._clock.now_ms()
        with self._database.read() as connection:
            books = self._read_books(connection, now_ms // 1000)
        if books.same_places(here.books):
            if books.thresholds != here.books.thresholds:
                here.engine.set_thresholds(books.thresholds)
            here.books = books  # a meter may hang at another gateway or bus, a gateway lie in another district
            return
        self._record(here, now_ms, fired=True)
        self._load(*self._recorded)
        self.counters["loads_total"] += 1

    def close(self) -> None:
        """Give the parts back."""
        if self._tokens:
            with self._database.begin() as connection:
                watch.release(connection, self.settings.instance, self._tokens)

    # --- what is shown ---------------------------------------------------------------------------------------------

    def figures(self) -> dict[str | tuple[str, str], float]:
        """Return counters and gauges by Prometheus name and labels."""
        found: dict[str | tuple[str, str], float] = {}
        for name, count in list(self.counters.items()):
            base, _, sort = name.partition(":")
            key = f"metergate_anomaly_{base}"
            found[(key, f'sort="{sort}"') if sort else key] = count
        found["metergate_anomaly_last_evaluation_timestamp_seconds"] = self.evaluated_ms / 1000
        found["metergate_anomaly_load_seconds"] = self._load_s
        here = self._now
        if here is not None:
            found["metergate_anomaly_meters"] = len(here.books.places.table)
            found["metergate_anomaly_judged_timestamp_seconds"] = here.watch.judged_s
            found["metergate_anomaly_open_findings"] = sum(len(rows) for rows in here.engine.book.by_rule.values())
        return found
