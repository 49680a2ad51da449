"""The way of a reading through ingest, and why a crash between any two steps loses and invents nothing.

    deliveries -> check -> [look] -> [lower the floor] -> STORE -> REGISTRY -> acknowledge -> (each second) FLUSH

- Before STORE: nothing happened yet. The gateway still holds every row, the broker every delivery.
- Between STORE and REGISTRY: the rows are stored but not accounted for, so nobody was told. They come again, are
  found in the store with the same values, and are accounted for then: not written twice, not counted twice.
- Between REGISTRY and acknowledge: as above, except that they are accounted for already (a redelivery).
- After acknowledge: the gateway may forget the rows; they are in the store or in quarantine, both committed.
- Before FLUSH: latest readings and daily closings live only in memory. The *recovery floor* in the registry is never
  above the lowest read_at that is not flushed: it is lowered before a store write that goes below it and raised only
  after a flush. A start reads the store from there again, and takes each meter's newest key from the store itself,
  because promise 5 (look before writing a key that is not newer) must not hang on a table that may be behind.

Batches follow each other like carriages: while one is accounted for in the registry, the next may be stored and a
third checked. Each stage has a lock and hands over to the next in order, so that the above holds for each batch, and
acknowledgements keep their order. A batch is checked against what the ones before it *will have* committed
(`checker.positions`); gateways are only ever told what *is* (`_committed`).

A store or registry that cannot is asked again for ever, ever less often; meanwhile nothing is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeVar

from ingest.answers import Answers, Sender
from ingest.batch import Batch
from ingest.checking import Checker, Counters
from ingest.decoding import MAX_PAYLOAD
from ingest.holding import Holding
from ingest.meters import Changes, MeterTable, latest_row
from ingest.patience import Patience
from ingest.worker import Worker
from metering.admission import ClockRules, TimeLimits
from metering.clock import Clock
from metering.messages import PARTS, part_of
from metering.mqtt import Delivery
from metering.reading import Reading
from metering.store import Key, ReadingStore
from registry import leases, validation_rules, watch
from registry import ledger as books
from registry.database import Database
from registry.leases import LeaseLostError
from registry.ledger import MeterFacts, Position

T = TypeVar("T")

_ALL_TIME: Final = 253_402_300_800_000  # the year 10000
_PAGE: Final = 20_000  # readings noted in one go while the closings are rebuilt
_FLOOR_MARGIN_MS: Final = 600_000  # live rows are younger than this, so that they never lower the floor
_FLOOR_STEP_MS: Final = 300_000
_FLOOR_SLACK_MS: Final = 3_600_000
_BACKLOG_S: Final = 30.0  # the floor stays down until no backlog came for so long

_read_at = attrgetter("read_at")


def _no_fault(step: str) -> None:
    """Tests put a hook here that dies at a step; see `tests/ingest/test_crashes.py`."""


class Pipeline:
    """One worker's pipeline. `problems`: dependency -> why it cannot at the moment, "" when it can."""

    def __init__(
        self,
        sender: Sender,
        store: ReadingStore,
        database: Database,
        *,
        clock: Clock,
        limits: TimeLimits | None = None,
        estimates: bool = False,
        max_message_bytes: int = MAX_PAYLOAD,
        holding: Holding | None = None,
        fault: Callable[[str], None] = _no_fault,
    ) -> None:
        """holding: which parts of the city are ours; None: all, and nobody else works on any."""
        self.counters: Counters = Counter()
        self._patience = Patience(clock, self.counters)
        self.problems = self._patience.problems
        self.meters = MeterTable()
        self.checker = Checker(
            self.meters,
            limits=limits or TimeLimits(),
            counters=self.counters,
            estimates=estimates,
            max_message_bytes=max_message_bytes,
        )
        self._answers = Answers(sender, self.counters)
        self._store = store
        self._database = database
        self._clock = clock
        self._fault = fault
        self._store_thread = Worker("store")
        self._registry_thread = Worker("registry")
        self._checking = asyncio.Lock()  # whoever needs several of the three takes them in this order
        self._storing = asyncio.Lock()
        self._recording = asyncio.Lock()
        self._flushing = asyncio.Lock()  # before the others
        self._unwritten: list[Batch] = []  # checked, and not in the store yet
        self._committed: dict[tuple[str, str], Position] = {}
        self._lost: set[int] = set()
        self.holding = holding or Holding()
        self._floor = 0
        self._backlog_at = -_BACKLOG_S

    # -- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Learn what there is of the parts that are ours from the beginning; leased ones come by `take_over`."""
        _, self.meters.gateways, self.checker.clock = await self._in_registry(self._books)
        if self.holding.ready:
            self._floor = await self._learn_parts(self.holding.ready)
            await self._set_floor(self._floor, self.holding.ready)
        await self.flush()

    async def take_over(self, parts: Mapping[int, int]) -> None:
        """Begin to work on leased parts (part -> token): rebuild what their last holder had only in memory."""
        self.holding.tokens = {**self.holding.tokens, **parts}
        floor = await self._learn_parts(parts.keys())
        if not self.holding.ready:
            self._floor = floor
        await self.flush()
        async with self._checking, self._storing:
            still = {part for part, token in parts.items() if self.holding.tokens.get(part) == token}
            try:
                await self._set_floor(self._floor, still)
            except LeaseLostError as error:
                still -= set(error.parts)
            self._forget(parts.keys() - still)
            self.holding.ready = self.holding.ready | still
        self.announce(still)

    async def let_go(self, parts: Collection[int]) -> None:
        """Stop working on parts, with everything of theirs written; after it their leases may be released."""
        async with self._checking, self._storing, self._recording:
            self.holding.ready = self.holding.ready - set(parts)
        await self.flush()
        async with self._checking, self._storing:
            self._forget(parts)

    async def _learn_parts(self, parts: Collection[int]) -> int:
        """Learn from the registry and the store what there is; rebuild latest and closings after a crash.

        Returns: the recovery floor from which that was done.
        """
        facts, positions, latest, floor = await self._in_registry(partial(self._load, parts))
        self.checker.positions.update(positions)
        self._committed.update(positions)
        self.checker.remember_epochs()
        self.meters.let_go(parts)  # what is known of them from before they were ours may be old
        await self._learn(facts)
        newest = await self._in_store(partial(self._store.at_or_before, list(facts), _ALL_TIME))
        self.meters.note(r for meter, r in newest.items() if latest.get(meter) != latest_row(r))
        await self._note_since(floor, None if len(parts) == PARTS else list(facts))
        return int(floor)

    def _forget(self, parts: Collection[int]) -> set[str]:
        """Drop everything that is known of parts; return the meters."""
        self.holding.drop(parts)
        for positions in (self.checker.positions, self._committed):
            for key in [key for key, known in positions.items() if known.part in parts]:
                del positions[key]
        return self.meters.let_go(parts)

    def announce(self, parts: Collection[int] | None = None) -> None:
        """Tell known gateways what is committed of the outbox they spoke from last, so that they resume at once.

        parts: only theirs.
        """
        newest = {p.gateway: p for p in sorted(self._committed.values(), key=attrgetter("last_up_at"))}
        for gateway, position in newest.items():
            if gateway in self.meters.gateways and (parts is None or position.part in parts):
                self._answers.acknowledge(position)

    def greet(self, gateway: str, epoch: str) -> None:
        """A gateway came to life: tell it what is committed of its outbox."""
        position = self._committed.get((gateway, epoch))
        if position is not None:
            self._answers.acknowledge(position)

    def close(self, timeout_s: float) -> bool:
        """Let the threads finish what they are doing; False when one hangs (then leave its database open)."""
        store_done = self._store_thread.close(timeout_s)
        return self._registry_thread.close(timeout_s) and store_done

    def _load(self, parts: Collection[int]) -> tuple[Any, ...]:
        with self._database.read() as connection:
            facts = _of_parts(books.load_meters(connection), parts)
            latest = books.load_latest(connection)
            positions = books.load_positions(connection)
            floor = leases.floor_of(connection, parts)
        return facts, {key: known for key, known in positions.items() if known.part in parts}, latest, floor

    async def _note_since(self, floor: int, meters: Sequence[str] | None) -> None:
        """Read the store from the recovery floor again, into the tables that wait for the flush."""
        after: Key | None = None
        while True:
            page = await self._in_store(partial(self._page, meters, floor, after))
            self.meters.note(page)
            if len(page) < _PAGE:
                return
            after = page[-1].meter, page[-1].read_at

    def _page(self, meters: Sequence[str] | None, floor: int, after: Key | None) -> list[Reading]:
        return list(self._store.range(meters, floor, _ALL_TIME, limit=_PAGE, after=after))

    # -- one turn --------------------------------------------------------------------------------------------------

    async def cycle(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries of `up` topics the whole way; returns when they are acknowledged."""
        await self._patience.sane_clock(self.checker.limits.earliest_ms)
        began = self._clock.monotonic()
        await self._checking.acquire()
        try:
            batch = await self._check(self.holding.ours(deliveries, self.counters))
            await self._storing.acquire()
        finally:
            self._checking.release()
        try:
            await self._write(batch)
            await self._recording.acquire()
        finally:
            self._storing.release()
        try:
            self._answer(batch, await self._record(batch), deliveries)
        finally:
            self._recording.release()
        self.counters["cycles_total", ""] += 1
        self.counters["cycle_microseconds_total", ""] += round((self._clock.monotonic() - began) * 1e6)

    async def _check(self, deliveries: Sequence[Delivery]) -> Batch:
        batch = self.checker.check(deliveries, self._clock.now_ms())
        self._fault("checked")
        if batch.strangers or batch.unsure:
            await self._ask_registry(batch)
        if batch.older:
            keys = [(older.reading.meter, older.reading.read_at) for older in batch.older]
            ahead = self._on_their_way(set(keys))
            self.checker.resolve(batch, await self._in_store(lambda: self._store.get(keys)) | ahead)
        self.checker.distrust_reused(batch)
        self._unwritten.append(batch)
        self.checker.positions.update({(p.gateway, p.epoch): p for p in batch.positions()})
        return batch

    def _on_their_way(self, keys: Collection[Key]) -> dict[Key, Reading]:
        """Return readings of batches that were checked before and are not in the store yet: they count as held."""
        return {
            key: reading
            for batch in self._unwritten
            for reading in batch.writes()
            if (key := (reading.meter, reading.read_at)) in keys
        }

    async def _write(self, batch: Batch) -> None:
        await self._store_rows(batch)
        self._unwritten.remove(batch)

    async def _store_rows(self, batch: Batch) -> None:
        writes = batch.writes()
        if not writes:
            return
        lowest = min(map(_read_at, writes))
        if lowest < batch.now - _FLOOR_MARGIN_MS:
            self._backlog_at = self._clock.monotonic()
        if lowest < self._floor:
            await self._lower_floor(lowest - _FLOOR_SLACK_MS)
        self._fault("floored")
        results = await self._in_store(lambda: self._store.write(writes))
        self._fault("stored")
        if any(results):
            refused = {index: reason for index, reason in enumerate(results) if reason is not None}
            self.checker.forget(batch, refused)
            writes = [row for index, row in enumerate(writes) if index not in refused]
        self.meters.note(writes)

    async def _record(self, batch: Batch) -> list[Position]:
        """One transaction: events, quarantine, changed meters, and what is committed of each outbox (returned)."""
        positions = batch.positions()
        if not (batch.events or batch.quarantine or positions):
            return positions

        def record() -> None:
            with self._database.begin() as connection:
                self.holding.fence(connection, {position.part for position in positions})
                books.add_events(connection, batch.events)
                books.add_quarantine(connection, batch.quarantine)
                books.save_positions(connection, positions)
                watch.note_touched(connection, batch.touched(), batch.now)
                self._fault("recording")

        while True:
            try:
                await self._in_registry(record)
                break
            except LeaseLostError as error:  # their new holder accounts for them; the others go on
                self._lost.update(error.parts)
                positions = [position for position in positions if position.part not in error.parts]
        self._committed.update({(p.gateway, p.epoch): p for p in positions})
        self._fault("recorded")
        return positions

    def _answer(self, batch: Batch, positions: Iterable[Position], deliveries: Iterable[Delivery]) -> None:
        for position in positions:
            self._answers.acknowledge(position)
        for gateway, refused in batch.refused:
            self._answers.refuse(gateway, refused)
        self._fault("answered")
        for delivery in deliveries:
            delivery.ack()
        self._fault("acknowledged")

    # -- what the registry says ------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Take over what changed in the registry's books: new, moved and removed meters, new gateways."""
        async with self._checking:
            everything, self.meters.gateways, self.checker.clock = await self._in_registry(self._books)
            facts = _of_parts(everything, self.holding.ready)
            await self._learn(facts)
            self.meters.keep_only(facts)

    def _books(self) -> tuple[dict[str, MeterFacts], set[str], ClockRules]:
        with self._database.read() as connection:
            clock = validation_rules.clock_rules(validation_rules.in_force(connection))
            return books.load_meters(connection), books.load_gateways(connection), clock

    async def _ask_registry(self, batch: Batch) -> None:
        """Before a row is refused as unknown: it may have been imported since the last reload."""

        def gateways() -> set[str]:
            with self._database.read() as connection:
                return books.load_gateways(connection)

        if batch.strangers:
            self.meters.gateways = await self._in_registry(gateways)
            self.checker.check_strangers(batch)
        names = sorted({placed.row.meter for placed in batch.unsure})

        def facts() -> dict[str, MeterFacts]:
            with self._database.read() as connection:
                return books.load_meters(connection, names)

        if names:
            await self._learn(await self._in_registry(facts))
            self.checker.settle(batch)

    async def _learn(self, facts: Mapping[str, MeterFacts]) -> None:
        unknown = self.meters.set_facts(facts)
        if unknown:
            newest = await self._in_store(lambda: self._store.at_or_before(unknown, _ALL_TIME))
            for meter in unknown:
                self.meters.add(meter, facts[meter], newest.get(meter))

    # -- each second -----------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Write latest readings and closings, raise the recovery floor, and tell which meters changed."""
        async with self._flushing:
            if self._lost or self._next_floor() != self._floor:
                # no batch may lie between store and memory while the floor rises or a part is forgotten
                async with self._checking, self._storing:
                    changes, floor = self.meters.take(), self._next_floor()
                    changes.drop(self._forget(self._lost))
                    self._lost.clear()
                    await self._save_ours(changes, floor)
                    self._floor = floor
            else:
                changes = self.meters.take()
                await self._save_ours(changes, self._floor)
        self._answers.notice(changes.touched, self._clock.now_ms())

    async def _save_ours(self, changes: Changes, floor: int) -> None:
        """Save what belongs to parts that are still ours; the others are forgotten by the next flush."""
        while changes.touched or changes.closings or floor != self._floor:
            try:
                await self._in_registry(partial(self._save, changes, floor))
            except LeaseLostError as error:
                self._lost.update(error.parts)
                self.holding.drop(error.parts)
                changes.drop({meter for meter, state in self.meters.states.items() if state.part in self._lost})
                continue
            self._fault("flushed")
            return

    def _save(self, changes: Changes, floor: int) -> None:
        with self._database.begin() as connection:
            self.holding.fence(connection)
            books.save_latest(connection, changes.latest)
            books.replace_latest(connection, changes.replaced)
            books.save_closings(connection, changes.closings)
            if floor != self._floor:
                leases.set_floor(connection, self.holding.ready, floor)
            self._fault("flushing")

    def _next_floor(self) -> int:
        target = self._clock.now_ms() - _FLOOR_MARGIN_MS
        quiet = self._clock.monotonic() - self._backlog_at >= _BACKLOG_S
        return target if quiet and target - self._floor >= _FLOOR_STEP_MS else self._floor

    async def _lower_floor(self, floor: int) -> None:
        while True:
            try:
                await self._set_floor(floor, self.holding.ready - self._lost)
                break
            except LeaseLostError as error:
                self._lost.update(error.parts)
        self._floor = floor

    async def _set_floor(self, floor: int, parts: Collection[int]) -> None:
        def save() -> None:
            with self._database.begin() as connection:
                self.holding.fence(connection, parts)
                leases.set_floor(connection, parts, floor)

        await self._in_registry(save)

    async def _in_store(self, call: Callable[[], T]) -> T:
        return await self._patience.ask("store", self._store_thread, call)

    async def _in_registry(self, call: Callable[[], T]) -> T:
        return await self._patience.ask("registry", self._registry_thread, call)


def _of_parts(facts: Mapping[str, MeterFacts], parts: Collection[int]) -> dict[str, MeterFacts]:
    """Return the meters whose gateway belongs to one of `parts`."""
    return {meter: known for meter, known in facts.items() if part_of(known.gateway) in parts}
