"""What is held, in flight and committed: the uplink's book, without sockets, clock or disk.

Every row that the outbox holds is either to be sent (`todo`) or in flight. It leaves only when ingest says that it is
committed (`Ack`); a broker's PUBACK says nothing about that. The rules:

- live rows go first, the backlog of an outage behind them, paced;
- an acknowledged message proves that those sent before it have arrived or are lost: what is still missing of them is
  sent again at once;
- silence for `ack_timeout_s` returns everything in flight and shrinks the window to one probing message, with a
  growing pause, until an acknowledgement comes;
- an acknowledgement counts only for rows that this process has sent: after a restored disk the same numbers may name
  other rows.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.spans import Span, SpanSet
from metering.messages import MAX_ROWS, Ack

_FIRST_PAUSE_S: Final = 1.0
_LAST_PAUSE_S: Final = 30.0
_GONE_AT_ONCE: Final = 20


@dataclass(slots=True)
class Flight:
    """A message on its way. order: 1, 2, … as sent. digest: names its bytes, see `payload_digest`."""

    order: int
    low: int
    high: int
    sent_at: float
    digest: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The next message: rows low … at most high, at most `rows` of them."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What an acknowledgement changed. done: rows that may leave the outbox."""

    done: list[Span]
    needs_epoch: bool = False
    foreign: bool = False


class SendLedger:
    """See the module. All times are seconds of a monotonic clock."""

    def __init__(
        self,
        rng: random.Random,
        *,
        window: int = 16,
        ack_timeout_s: float = 15.0,
        backlog_rows_s: float = 2000.0,
        gather_s: float = 0.1,
    ) -> None:
        self.max_window = window
        self.ack_timeout_s = ack_timeout_s
        self.backlog_rows_s = backlog_rows_s
        self.gather_s = gather_s
        names = ("messages", "rows_sent", "rows_resent", "acks", "foreign_acks", "lost_messages", "ack_timeouts")
        self.counters = dict.fromkeys((*names, "refused_messages"), 0)
        self._rng = rng
        self.reset("", (), 0)

    def reset(self, epoch: str, held: Iterable[Span], produced: int) -> None:
        """Begin with an epoch: everything held is to be sent, all of it as backlog."""
        self.epoch = epoch
        self.produced = produced
        self.held = SpanSet(held)
        self.todo = SpanSet(self.held)
        self.gone: list[Span] = []
        self.connected = False
        self.window = self.max_window
        self._flights: list[Flight] = []
        self._sent = SpanSet()
        self._single = SpanSet()
        self._order = 0
        self._live_after = produced
        self._live_at = -1e9
        self._backlog_at = 0.0
        self._pause_s = 0.0
        self._blocked_until = 0.0
        self._progress_at = 0.0

    @property
    def oldest(self) -> int:
        """The lowest seq still held; the next one when nothing is."""
        return self.held.first or self.produced + 1

    @property
    def in_flight(self) -> int:
        """Messages sent and not yet answered."""
        return len(self._flights)

    def add(self, produced: int) -> None:
        """The outbox committed rows up to `produced`."""
        self.held.add(self.produced + 1, produced)
        self.todo.add(self.produced + 1, produced)
        self.produced = max(self.produced, produced)

    def connect(self, now: float) -> None:
        """The link is up: nothing is in flight any more, what waits is backlog, what comes is live."""
        self._return_flights()
        self.connected = True
        self._live_after = self.produced
        self._progress_at = now
        self._blocked_until = 0.0

    def disconnect(self) -> None:
        """The link is down; what was in flight may or may not have arrived."""
        self._return_flights()
        self.connected = False

    def next(self, now: float) -> Wanted | None:
        """Return which rows the next message should carry, None when nothing may be sent now."""
        if not self.connected or now < self._blocked_until or len(self._flights) >= self.window:
            return None
        live = self.todo.run_from(self._live_after + 1)
        if live is not None and (live[1] - live[0] + 1 >= MAX_ROWS or now >= self._live_at + self.gather_s):
            return self._want(*live)
        backlog = self.todo.run_from(0)
        if backlog is None or backlog[0] > self._live_after or now < self._backlog_at:
            return None
        return self._want(backlog[0], min(backlog[1], self._live_after))

    def sent(self, low: int, high: int, digest: str, now: float) -> Flight:
        """Note that a message with the rows low … high is on its way."""
        self._order += 1
        flight = Flight(self._order, low, high, now, digest)
        self._flights.append(flight)
        self.todo.remove(low, high)
        rows = high - low + 1
        self.counters["messages"] += 1
        self.counters["rows_sent"] += rows
        self.counters["rows_resent"] += sum(b - a + 1 for a, b in self._sent.within(low, high))
        self._sent.add(low, high)
        if low > self._live_after:
            self._live_at = now
        else:
            self._backlog_at = max(self._backlog_at, now) + rows / self.backlog_rows_s
        return flight

    def failed(self, flight: Flight, now: float) -> None:
        """The broker refused a message; its rows are to be sent again, after a pause."""
        if flight in self._flights:
            self._return(flight)
            self._pause(now)

    def acknowledged(self, ack: Ack, now: float) -> Answered:
        """Take in what ingest says."""
        if ack.refused is not None:
            done = self._refused(ack.refused.digest, now)
            if not ack.epoch:
                return Answered(done)
        if ack.epoch != self.epoch:
            self.counters["foreign_acks"] += 1
            return Answered([], foreign=True)
        if ack.upto > self.produced:
            return Answered([], needs_epoch=True)
        self.counters["acks"] += 1
        missing = SpanSet(ack.missing)
        done = [
            part
            for low, high in missing.gaps(1, ack.upto)
            for a, b in self._sent.within(low, high)
            for part in self.held.within(a, b)
        ]
        self._note_gone(missing, ack.upto)
        self._finish(done, now)
        return Answered(done)

    def tick(self, now: float) -> None:
        """Let time pass: silence for too long returns what is in flight."""
        if self._flights and now - max(self._flights[0].sent_at, self._progress_at) >= self.ack_timeout_s:
            self.counters["ack_timeouts"] += 1
            self._return_flights()
            self._pause(now)

    def wake_at(self, now: float) -> float:
        """Return when something may happen by itself."""
        times = [now + _LAST_PAUSE_S]
        if self._flights:
            times.append(max(self._flights[0].sent_at, self._progress_at) + self.ack_timeout_s)
        if self.todo and self.connected and len(self._flights) < self.window:
            if now < self._blocked_until:
                times.append(self._blocked_until)
            else:
                times += [at for at in (self._live_at + self.gather_s, self._backlog_at) if at > now]
        return min(times)

    def take_gone(self) -> list[Span]:
        """Return ranges that ingest misses and nobody holds any more, to be told once."""
        told, self.gone = self.gone[:_GONE_AT_ONCE], self.gone[_GONE_AT_ONCE:]
        return told

    def _want(self, low: int, high: int) -> Wanted:
        single = self._single.run_from(low)
        if single is not None and single[0] == low:
            return Wanted(low, low, 1)
        if single is not None:
            high = min(high, single[0] - 1)
        rows = min(MAX_ROWS, high - low + 1)
        return Wanted(low, low + rows - 1, rows)

    def _finish(self, done: Sequence[Span], now: float) -> None:
        for low, high in done:
            self.held.remove(low, high)
            self.todo.remove(low, high)
            self._single.remove(low, high)
        finished = [flight for flight in self._flights if not self.held.within(flight.low, flight.high)]
        if not finished:
            return
        last = finished[-1].order
        lost = [flight for flight in self._flights if flight.order < last and flight not in finished]
        self._flights = [flight for flight in self._flights if flight not in finished]
        for flight in lost:
            self.counters["lost_messages"] += 1
            self._return(flight)
        self._progress_at = now
        if self._pause_s:  # the end of an outage behind a broker that stayed: what waits by now is backlog
            self._live_after = self.produced
        self._pause_s = self._blocked_until = 0.0
        self.window = min(self.max_window, self.window * 2)

    def _refused(self, digest: str, now: float) -> list[Span]:
        """Ingest has the raw bytes of a message in quarantine: send its rows singly, or let a single one go."""
        flight = next((flight for flight in self._flights if flight.digest == digest), None)
        if flight is None:
            return []
        self.counters["refused_messages"] += 1
        if flight.low == flight.high:
            done = self.held.within(flight.low, flight.high)
            self._finish(done, now)
            return done
        self._return(flight)
        for low, high in self.held.within(flight.low, flight.high):
            self._single.add(low, high)
        self._progress_at = now
        return []

    def _note_gone(self, missing: SpanSet, upto: int) -> None:
        for low, high in missing:
            for span in self.held.gaps(low, min(high, upto)):
                if span not in self.gone and len(self.gone) < 100:
                    self.gone.append(span)

    def _return(self, flight: Flight) -> None:
        self._flights.remove(flight)
        for low, high in self.held.within(flight.low, flight.high):
            self.todo.add(low, high)

    def _return_flights(self) -> None:
        for flight in list(self._flights):
            self._return(flight)

    def _pause(self, now: float) -> None:
        """Probe with one message after a pause that doubles, with jitter."""
        self.window = 1
        self._pause_s = min(_LAST_PAUSE_S, max(_FIRST_PAUSE_S, self._pause_s * 2))
        self._blocked_until = now + self._pause_s * self._rng.uniform(0.5, 1.0)
