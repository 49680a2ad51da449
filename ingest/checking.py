"""From deliveries to a `Batch`: who speaks, is it readable, is it plausible, is its key new. Pure but for counters.

The loop in `_check_rows` sees every reading of the city (goal: 4 µs each for the whole process), so it does nothing
but dictionary look-ups and comparisons for an ordinary reading. Whatever is not ordinary goes to `admission`, which
decides; the loop only knows a range inside which nobody needs to be asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from ingest import ledger
from ingest.alarms import Alarms
from ingest.batch import Batch, Older, Origin, Placed
from ingest.decoding import MAX_PAYLOAD, BadRow, BrokenMessageError, Decoded, decode
from ingest.meters import MeterState, MeterTable
from ingest.records import event_row, own_event, quarantine_row, raw_of
from metering.admission import EXACT_MICRO, ClockRules, TimeLimits, judge
from metering.errors import MessageError
from metering.messages import OFFICE, Refused, Up, gateway_of, payload_digest
from metering.mqtt import Delivery
from metering.reading import Event, Reading, Row
from registry.ledger import Position

_ORDINARY: Final = frozenset({"valid", "suspect", "manual"})
_HOUR_MS: Final = 3_600_000
_MANY: Final = 2**31 - 1

Counters = Counter[tuple[str, str]]
"""(name, labels in Prometheus form) -> count since start."""


class Checker:
    """Judges deliveries. `positions` is what is committed; only the pipeline replaces it, after a commit."""

    def __init__(
        self,
        meters: MeterTable,
        *,
        limits: TimeLimits,
        counters: Counters,
        estimates: bool = False,
        max_message_bytes: int = MAX_PAYLOAD,
    ) -> None:
        self.meters = meters
        self.limits = limits
        self.counters = counters
        self.alarms = Alarms(counters)
        self.estimates = estimates
        self.clock = ClockRules()
        """Rules for the meters' own clocks; the pipeline replaces them by those of the registry."""
        self.max_message_bytes = max_message_bytes
        self.positions: dict[tuple[str, str], Position] = {}
        self._epochs: dict[str, str] = {}

    def check(self, deliveries: Iterable[Delivery], now: int) -> Batch:
        """Judge `up` deliveries that arrived until `now` [ms UTC]."""
        batch = Batch(now)
        for delivery in deliveries:
            gateway = self._who(delivery, batch)
            if gateway is None:
                continue
            if gateway in self.meters.gateways:
                self._check_message(gateway, delivery, batch)
            else:
                batch.strangers.append((gateway, delivery))
        return batch

    def check_strangers(self, batch: Batch) -> None:
        """Judge messages of gateways that the registry was asked about once more."""
        strangers, batch.strangers = batch.strangers, []
        for gateway, delivery in strangers:
            if gateway in self.meters.gateways:
                self._check_message(gateway, delivery, batch)
            else:
                # not even a refusal: the gateway keeps its rows until the registry knows it, so nothing is lost
                self.counters["messages_total", 'result="stranger"'] += 1
                self._security(batch, gateway, "unknown_gateway", "the registry does not know this gateway")

    def settle(self, batch: Batch) -> None:
        """Judge, and finally, rows of meters that the registry was asked about once more."""
        unsure, batch.unsure = batch.unsure, []
        for placed in unsure:
            self._judge(batch, placed, final=True)

    def resolve(self, batch: Batch, stored: Mapping[tuple[str, int], Reading]) -> None:
        """Compare every older reading with what its key holds (promise 5): add, count as known, or set aside.

        stored: what the store has of `batch.older`'s keys.
        """
        wanted = {(older.reading.meter, older.reading.read_at) for older in batch.older}
        holding = {(r.meter, r.read_at): r for r in batch.fresh if (r.meter, r.read_at) in wanted} | dict(stored)
        for older in batch.older:
            key = older.reading.meter, older.reading.read_at
            held = holding.get(key)
            if held is None:
                holding[key] = batch.merged[key] = older.reading
                self._count_reading(older, "stored")
                older.origin.heard.reused |= older.known
                continue
            merged, differing = _merge(held, older.reading)
            if merged is not None:
                holding[key] = batch.merged[key] = merged
            if differing:
                self._set_aside(batch, Placed(*older), "conflict", differing)
            elif merged is not None:
                self._count_reading(older, "merged")
            else:
                self._count_reading(older, "duplicate")

    def forget(self, batch: Batch, refused: Mapping[int, str]) -> None:
        """Set aside what the store refused: index in `batch.writes()` -> reason."""
        writes = batch.writes()
        for index, reason in refused.items():
            reading = writes[index]
            state = self.meters.states.get(reading.meter)
            self._quarantine(batch, state.gateway if state else "", raw_of(reading), "store_refused", reason, reading)

    # -- messages --------------------------------------------------------------------------------------------------

    def _who(self, delivery: Delivery, batch: Batch) -> str | None:
        """Return the gateway whose topic this is; None when the delivery goes no further."""
        try:
            gateway = gateway_of(delivery.topic)
        except MessageError as error:
            self._suspicious(batch, "", delivery, "topic", error.message)
            return None
        if delivery.retain:
            self._suspicious(
                batch, gateway, delivery, "retained", f"retained on {delivery.topic}: no delivery of an outbox"
            )
            return None
        return gateway

    def _check_message(self, gateway: str, delivery: Delivery, batch: Batch) -> None:
        try:
            decoded = decode(delivery.payload, self.max_message_bytes)
        except BrokenMessageError as error:
            self._quarantine(batch, gateway, delivery.payload, f"message_{error.reason}", error.message)
            batch.refused.append((gateway, Refused(payload_digest(delivery.payload), error.reason)))
            self.counters["messages_total", 'result="refused"'] += 1
            return
        if decoded.up.gateway != gateway:
            text = f"a message of {decoded.up.gateway!r} on {delivery.topic}, the topic of {gateway!r}"
            self._suspicious(batch, gateway, delivery, "foreign_gateway", text)
            return
        self.counters["messages_total", 'result="ok"' if decoded.canonical else 'result="unusual"'] += 1
        self._check_rows(batch, batch.origin(gateway, decoded.up.epoch, self.positions), decoded)

    def _suspicious(self, batch: Batch, gateway: str, delivery: Delivery, cause: str, text: str) -> None:
        """Refuse a message without an answer: whoever sent it, the gateway of this topic did not.

        Nothing of it was acknowledged, so that raw bytes beyond the first ones of an hour need not be kept.
        """
        self.counters["messages_total", 'result="suspicious"'] += 1
        if self._security(batch, gateway, cause, text, payload_digest(delivery.payload)):
            self._quarantine(batch, gateway, delivery.payload, f"message_{cause}", text)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _check_rows(self, batch: Batch, origin: Origin, decoded: Decoded) -> None:
        up, rows = decoded.up, decoded.rows
        position, first, last = origin.position, up.seq, up.seq + len(rows) - 1
        before = list(position.spans) if ledger.committed(position.spans, first, last) else []
        states, gateway, now = self.meters.states, origin.gateway, batch.now
        low, high = self.limits.window(now)
        most_off = self.clock.never_doubted_ms
        fresh, stored = batch.fresh, len(batch.fresh)
        seq = first - 1
        for row in rows:
            seq += 1
            if type(row) is Reading:
                state = states.get(row.meter)
                if (
                    state is not None
                    and state.gateway == gateway
                    and low <= row.read_at <= high
                    and row.quality in _ORDINARY
                    and row.source != "estimate"
                    and (
                        (said := row.meter_time) is None
                        or (said != state.clock and -most_off <= said - row.read_at <= most_off)
                    )
                ):
                    for micro in row.values.values():
                        if not -EXACT_MICRO < micro < EXACT_MICRO:
                            break
                    else:
                        if row.read_at > state.newest and row.values:
                            state.newest = row.read_at
                            if said is not None:
                                state.clock, state.clock_since = said, row.read_at
                            row.received_at = now
                            fresh.append(row)
                            continue
            self._look_closer(batch, origin, seq, row, ledger.contains(before, seq))
        position.stored += len(fresh) - stored
        self.counters["readings_total", 'result="stored"'] += len(fresh) - stored
        if before and len(fresh) > stored:
            new = {id(row) for row in fresh[stored:]}
            if any(id(row) in new and ledger.contains(before, seq) for seq, row in enumerate(rows, first)):
                origin.heard.reused = True
        self._account(batch, origin, up, last)

    def _look_closer(self, batch: Batch, origin: Origin, seq: int, row: Row | BadRow, known: bool) -> None:
        if isinstance(row, BadRow):
            self._count(origin.position, known, "quarantined")
            self._quarantine(batch, origin.gateway, row.raw, row.reason, row.detail, None, origin, seq)
        elif isinstance(row, Event):
            self._check_event(batch, Placed(row, origin, seq, known))
        else:
            self._judge(batch, Placed(row, origin, seq, known))

    def _check_event(self, batch: Batch, placed: Placed) -> None:
        event, origin, seq, known = placed
        assert isinstance(event, Event)
        state = self.meters.states.get(event.meter)
        if state is not None and state.gateway != origin.gateway:
            self._foreign(batch, origin.gateway, event.meter)
            self._set_aside(batch, placed, "foreign_meter", f"meter {event.meter!r} belongs to {state.gateway}")
            return
        self.counters["events_total", f'kind="{event.kind}"'] += 1
        self._count(origin.position, known, "events")
        batch.events.append(event_row(origin.gateway, origin.epoch, seq, event, batch.now))

    def _judge(self, batch: Batch, placed: Placed, *, final: bool = False) -> None:
        reading, origin, seq, known = placed
        assert isinstance(reading, Reading)
        state = self.meters.states.get(reading.meter)
        verdict = judge(
            reading,
            owner=state.gateway if state else None,
            gateway=origin.gateway,
            now=batch.now,
            limits=self.limits,
            estimates=self.estimates,
            clock=self.clock,
            stood_ms=_stood_ms(state, reading),
        )
        if verdict.decision == "quarantine" or state is None:
            if verdict.reason in ("unknown_meter", "foreign_meter") and not final:
                batch.unsure.append(placed)
                return
            if verdict.reason == "foreign_meter":
                self._foreign(batch, origin.gateway, reading.meter)
            self._set_aside(batch, placed, verdict.reason, verdict.detail)
            return
        if verdict.decision == "suspect" and reading.quality == "valid":
            reading.quality, reading.reason = "suspect", verdict.reason
        self._admit(batch, state, Older(reading, origin, seq, known))

    def _admit(self, batch: Batch, state: MeterState, older: Older) -> None:
        older.reading.received_at = batch.now
        newer = older.reading.read_at > state.newest
        if newer and older.reading.meter_time not in (None, state.clock):
            state.clock, state.clock_since = older.reading.meter_time, older.reading.read_at
        state.newest = max(state.newest, older.reading.read_at)
        # the office speaks for meters that another worker may be reading: what we know of their newest key may be old
        if newer and older.origin.gateway != OFFICE:
            batch.fresh.append(older.reading)
            self._count_reading(older, "stored")
        else:
            batch.older.append(older)

    # -- accounts --------------------------------------------------------------------------------------------------

    def _account(self, batch: Batch, origin: Origin, up: Up, last: int) -> None:
        """Note the message in the ledger, and close what its gateway says will never come."""
        position = origin.position
        if last >= up.seq and not ledger.committed(position.spans, up.seq, last):
            self._watch_epoch(batch, origin)
        ledger.add(position.spans, up.seq, last)
        ledger.add(origin.heard.spans, up.seq, last)
        origin.heard.oldest = min(origin.heard.oldest, up.oldest, up.seq)
        position.produced = max(position.produced, up.produced, last)
        position.oldest = max(position.oldest, min(up.oldest, up.seq))
        position.last_up_at = max(position.last_up_at, batch.now)
        closed = ledger.close(position.spans, 1, position.oldest - 1)
        for start, end in up.gone:
            closed += ledger.close(position.spans, start, min(end, position.produced))
        if closed:
            position.gone += closed
            text = f"{closed} rows of outbox {origin.epoch} will not come: the gateway no longer holds them"
            more = {"epoch": origin.epoch, "seq": up.seq, "count": min(closed, _MANY)}
            batch.events.append(
                own_event("counter_gap", "gone", text, batch.now, gateway=origin.gateway, key=str(closed), **more)
            )

    def distrust_reused(self, batch: Batch) -> None:
        """Forget what was committed of an outbox whose numbers now name other rows, but for this batch.

        Its disk was restored (or our store was). What was noted before speaks of rows that are no longer meant, and
        acknowledging it could make the gateway drop new rows that were lost on the way. To forget is safe: what the
        gateway still holds is asked for once more.
        """
        for origin in batch.origins.values():
            heard, position = origin.heard, origin.position
            if heard.reused:
                position.oldest = heard.oldest
                position.spans = list(heard.spans)
                ledger.add(position.spans, 1, heard.oldest - 1)
                text = f"rows came under numbers that outbox {origin.epoch} had used before: was a disk restored?"
                self._security(batch, origin.gateway, "numbers_reused", text, str(batch.now // _HOUR_MS))

    def _watch_epoch(self, batch: Batch, origin: Origin) -> None:
        """Two programs with one name take turns: new rows in an epoch that another one had already followed."""
        former = self._epochs.get(origin.gateway)
        self._epochs[origin.gateway] = origin.epoch
        if former is None or former == origin.epoch or not origin.position.spans:
            return
        text = f"outboxes {former} and {origin.epoch} speak in turns: are there two gateways with this name?"
        hour = str(batch.now // _HOUR_MS)
        self._security(batch, origin.gateway, "two_epochs", text, hour)

    def remember_epochs(self) -> None:
        """After a start: the epoch that spoke last is the one that speaks."""
        for position in sorted(self.positions.values(), key=lambda known: known.last_up_at):
            self._epochs[position.gateway] = position.epoch

    def _count_reading(self, older: Older, result: str) -> None:
        self.counters["readings_total", f'result="{result}"'] += 1
        # found in the store although this seq is new: written before a crash, but never accounted for
        stored = result in ("stored", "merged") or not older.known
        self._count(older.origin.position, not stored, "stored")

    def _count(self, position: Position, known: bool, what: str) -> None:
        column = "duplicates" if known else what
        setattr(position, column, getattr(position, column) + 1)

    def _set_aside(self, batch: Batch, placed: Placed, reason: str, detail: str) -> None:
        row, origin, seq, known = placed
        self._count(origin.position, known, "quarantined")
        raw = raw_of(row)
        self._quarantine(batch, origin.gateway, raw, reason, detail, row, origin, seq)

    def _quarantine(
        self,
        batch: Batch,
        gateway: str,
        raw: bytes,
        reason: str,
        detail: str,
        row: Row | None = None,
        origin: Origin | None = None,
        seq: int | None = None,
    ) -> None:
        self.counters["quarantined_total", f'reason="{reason}"'] += 1
        epoch = origin.epoch if origin else ""
        meter = row.meter if row else ""
        read_at = row.read_at if isinstance(row, Reading) else None
        batch.quarantine.append(
            quarantine_row(
                gateway, raw, reason, detail, batch.now, epoch=epoch, seq=seq, meter=meter, read_at=read_at
            )
        )

    def _foreign(self, batch: Batch, gateway: str, meter: str) -> None:
        self._security(batch, gateway, "foreign_meter", f"{gateway} speaks for meter {meter!r} of another", meter)

    def _security(self, batch: Batch, gateway: str, cause: str, text: str, key: str = "") -> bool:
        """Note a security event; False when it is one of too many, and only counted."""
        row = self.alarms.event(gateway, cause, text, batch.now, key)
        if row is not None:
            batch.events.append(row)
        return row is not None


def _stood_ms(state: MeterState | None, reading: Reading) -> int:
    """For how long the meter's clock has said the same; 0 for rows of the past, which say nothing about it."""
    if state is None or state.clock is None or state.clock != reading.meter_time:
        return 0
    return max(0, reading.read_at - state.clock_since) if reading.read_at > state.newest else 0


def _merge(held: Reading, new: Reading) -> tuple[Reading | None, str]:
    """Return the held reading with the quantities that only `new` has (None: it has none), and what differs."""
    differing = [
        f"{quantity}: stored {held.values[quantity]}, now {micro}"
        for quantity, micro in new.values.items()
        if held.values.get(quantity, micro) != micro
    ]
    added = {quantity: micro for quantity, micro in new.values.items() if quantity not in held.values}
    if not added:
        return None, "; ".join(differing)
    # one quality speaks for all quantities of a key: the doubt stays, whoever brought it
    doubt = held if held.quality != "valid" else new
    merged = Reading(
        held.meter,
        held.read_at,
        held.values | added,
        meter_time=held.meter_time,
        received_at=held.received_at,
        quality=doubt.quality,
        reason=doubt.reason,
        source=held.source,
        flags=held.flags,
    )
    return merged, "; ".join(differing)
