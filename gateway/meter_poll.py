"""One meter's poll: which requests, what came, when to ask again, and the rows that tell of it. No I/O.

A failed read is an event, never a value. Events of a silent meter are told at the 1st, 2nd, 4th, 8th … failure, each
with the number since the one before, and its recovery with the number of all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway import items
from gateway.drivers.modbus_rtu import make_rtu_ask
from gateway.drivers.modbus_tcp import make_ask
from gateway.items import ItemRequest
from gateway.plan import PlannedMeter
from gateway.requests import Found, Request, compile_request, split
from gateway.stamps import MeterStamps
from metering.admission import TimeLimits
from metering.errors import ConnectError, MeterError, MetergateError, NoAnswerError, ProtocolError
from metering.reading import Event, Quality, Reading

_RELEARN_S: Final = 86_400.0
_CONNECT_LAST_S: Final = 30.0
_ILLEGAL_ADDRESS: Final = 2
_CLOCK: Final = TimeLimits()

Decoder = Callable[[bytes, Found], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a poll, ready to be sent, and how its answer is decoded. ask: what the bus's link takes."""

    request: Request | ItemRequest
    ask: Any
    decode: Decoder


class StepMaker:
    """Makes steps; meters of one model share the decoders, meters of one unit the requests."""

    def __init__(self) -> None:
        self._decoders: dict[Request | ItemRequest, Decoder] = {}

    def steps(self, requests: Sequence[Request | ItemRequest], meter: PlannedMeter) -> list[Step]:
        """Return the steps, the one that brings the index first: its answer dates the reading."""
        index = meter.profile.index.name
        first = [r for r in requests if any(f.name == index for f in r.fields)]
        return [self.step(r, meter) for r in (*first, *(r for r in requests if r not in first))]

    def step(self, request: Request | ItemRequest, meter: PlannedMeter) -> Step:
        """Return one step."""
        decode = self._decoders.get(request)
        if decode is None:
            decode = items.compile_item(request) if isinstance(request, ItemRequest) else compile_request(request)
            self._decoders[request] = decode
        return Step(request, _ask(request, meter), decode)


def _ask(request: Request | ItemRequest, meter: PlannedMeter) -> Any:
    """Return what the link of the meter's bus takes."""
    if isinstance(request, ItemRequest):
        return items.make_ask(request, meter.address)
    make = make_rtu_ask if meter.bus.is_serial else make_ask
    return make(meter.unit, request.function, request.start, request.count)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How a silent meter is asked again [s]; share: of a bus's time that silent meters may cost together."""

    first_s: float = 2.0
    last_s: float = 300.0
    share: float = 0.1


class MeterPoll:
    """See the module. `begin` a poll, feed `answered` and `failed`, send what `step` says, until it is None."""

    __slots__ = (
        "_learned_at", "_maker", "_missing", "_position", "_read_at", "_stamps", "_told",
        "due", "failures", "found", "meter", "phase", "retired", "since", "skipped", "steps", "why",
    )  # fmt: skip

    def __init__(
        self, meter: PlannedMeter, maker: StepMaker, *, phase: float, before: MeterPoll | None = None
    ) -> None:
        """phase: [s of the monotonic clock] one moment at which this meter is due.

        before: the poll that this one replaces, or that it goes before; its stamps are shared, so that no two
        readings of a meter bear one time.
        """
        self.meter = meter
        self.phase = phase
        self.due = phase
        self.skipped = 0
        self.failures = 0
        self.why = ""
        self.since = 0
        self.found = Found({})
        self.steps: list[Step] = []
        self._maker = maker
        self.retired = False
        self._stamps: MeterStamps = MeterStamps() if before is None else before._stamps
        self._learned_at = phase
        self._position = 0
        self._read_at = 0
        self._told = 0
        self._missing = False
        self._learn_anew(phase)

    def inherit(self, before: MeterPoll) -> None:
        """Take over since when the meter is silent from the poll that this one replaces."""
        self.failures, self.why, self.since = before.failures, before.why, before.since
        self._told, self.skipped = before._told, before.skipped

    @property
    def step(self) -> Step:
        """The request to send now."""
        return self.steps[self._position]

    def begin(self, now: float) -> None:
        """Start a poll."""
        if now - self._learned_at > _RELEARN_S:
            self._learn_anew(now)
        self.found = Found({})
        self._position = 0
        self._missing = False

    def answered(self, data: bytes, now_ms: int) -> bool:
        """Take in the register bytes of the present step; True when the poll goes on. Raises: FrameError."""
        step = self.steps[self._position]
        if self._position == 0:
            self._read_at = now_ms
        step.decode(data, self.found)
        self._position += 1
        return self._position < len(self.steps)

    def refused(self, error: MetergateError) -> bool:
        """Take in a failed step; True when the poll goes on: a refused block is parted, a missing field left out."""
        step = self.steps[self._position]
        if isinstance(error, MeterError) and isinstance(step.request, ItemRequest) and self._position > 0:
            self._missing = True  # a meter without this item has the others
            self._position += 1
            return self._position < len(self.steps)
        if isinstance(error, MeterError) and isinstance(step.request, Request) and error.code == _ILLEGAL_ADDRESS:
            if len(step.request.fields) > 1:
                parts = self._maker.steps(split(step.request), self.meter)
                self.steps[self._position : self._position + 1] = parts
                return True
            if self._position > 0:
                del self.steps[self._position]
                return self._position < len(self.steps)
        self._missing = self._position > 0
        return False

    @property
    def has_index(self) -> bool:
        """True when the billed quantity has come."""
        return self.meter.profile.index.quantity in self.found.values

    def reading(self) -> Reading:
        """Return the reading of a poll that brought the index."""
        found = self.found
        at, doubtful = self._stamps.stamp(self._read_at)
        quality: Quality = "valid"
        reason = ""
        if self._missing:
            reason = "incomplete"
        if found.bad is not None:
            quality, reason = "suspect", f"bad_{next(iter(found.bad))}"
        if doubtful or at < _CLOCK.earliest_ms:  # the other limits lie around `now_ms` itself
            quality, reason = "suspect", "gateway_clock"
        return Reading(
            self.meter.meter, at, found.values, None, None, quality, reason, "poll", found.flags
        )  # fmt: skip

    def index_fault(self) -> tuple[str, str]:
        """Return cause and sentence for an answer that did not bring the index."""
        name = self.meter.profile.index.name
        if self.found.bad is not None and name in self.found.bad:
            return f"bad_{self.found.bad[name]}", f"the registers of {name} hold no such number"
        return "not_available", f"the meter says that it has no {name}"

    def succeeded(self, now_ms: int) -> Event | None:
        """Note a good read; return the event of a recovery."""
        if not self.failures:
            return None
        event = Event(
            kind="read_recovered", at=now_ms, meter=self.meter.meter, cause=self.why, count=self.failures,
            text=f"read again after {self.failures} failed reads in {(now_ms - self.since) / 1000:.0f} s",
        )  # fmt: skip
        self.failures = self._told = 0
        self.why = ""
        return event

    def note_failure(self, cause: str, text: str, now_ms: int) -> Event | None:
        """Note a failed read; return the event when it is to be told."""
        if not self.failures:
            self.since = now_ms
        self.failures += 1
        self.why = cause
        if self.failures & (self.failures - 1):
            return None
        count, self._told = self.failures - self._told, self.failures
        clean = text[:500].encode("utf-8", "replace").decode()
        return Event(kind="read_failed", at=now_ms, meter=self.meter.meter, cause=cause, count=count, text=clean)

    def next_due(self, now: float, *, stretch: int = 1, recovered: bool = False) -> float:
        """Move to the next moment of the meter's own grid, so that nothing drifts and nothing piles up.

        Moments that have passed are skipped and counted (unless the meter was silent meanwhile). stretch: every
        n-th moment only.
        """
        interval = self.meter.interval_s
        passed = int((now - self.phase) / interval) + 1
        planned = round((self.due - self.phase) / interval) + 1
        if not recovered and passed > planned:
            self.skipped += passed - planned
        self.due = self.phase + interval * (max(passed, planned) + stretch - 1)
        return self.due

    def retry_due(self, now: float, backoff: Backoff, silent: int, rng: random.Random) -> float:
        """Return when a meter that failed is asked again; `silent` meters share the bus's time for probing."""
        last = min(backoff.last_s, _CONNECT_LAST_S) if self.why == "connect" else backoff.last_s
        pause = min(last, backoff.first_s * 2.0 ** min(self.failures - 1, 30))
        if self.why == "timeout":
            pause = max(pause, self.meter.timeout_s * silent / backoff.share)
        self.due = now + pause * rng.uniform(0.9, 1.1)
        return self.due

    def _learn_anew(self, now: float) -> None:
        self._learned_at = now
        self.steps = self._maker.steps(self.meter.requests, self.meter)


def cause_of(error: MetergateError) -> str:
    """Return the short code for events and counters."""
    if isinstance(error, MeterError):
        return f"exception_{error.code:02X}"
    if isinstance(error, ProtocolError):
        return f"frame_{error.sort}"
    if isinstance(error, NoAnswerError):
        return "timeout"
    return "connect" if isinstance(error, ConnectError) else "lost"
