"""Makes rows for the outbox of what a field broker delivers: which meter, which time, what is missing, what is wrong.

No waiting and no disk in here; `gateway.drivers.mqtt_meters` does those. A `Batch` says what must be written down
before (stamps) and after (counters) its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from gateway.drivers.mqtt_counters import Complaints, step
from gateway.drivers.mqtt_memory import MqttMemory, StampKey
from gateway.plan_mqtt import MqttBus, MqttMeter, device_key
from gateway.profile_mqtt import SPARKPLUG, MqttProfile, sparkplug_device
from gateway.protocols import sparkplug_b
from gateway.protocols.mqtt_dialects import DIALECTS, Message, Notice, Readings, Sample, sparkplug
from gateway.protocols.sparkplug_state import EdgeNode, Outcome
from metering.admission import TimeLimits, judge_time
from metering.errors import FrameError, ProtocolError
from metering.mqtt import Delivery
from metering.reading import Event, EventKind, Reading, Row

Stamp = Callable[[str, int], int]
"""(meter, now [ms UTC]) -> a `read_at` that this meter has not had yet."""

_REBIRTH_EVERY_MS: Final = 10_000
_LATEST_MS: Final = 253_402_300_799_999
_LIMITS: Final = TimeLimits()
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Batch:
    """What a group of deliveries came to. rebirths: Sparkplug nodes (group, edge) to be asked for their births."""

    rows: list[Row] = field(default_factory=list)
    stamps: dict[StampKey, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    rebirths: list[tuple[str, str]] = field(default_factory=list)


class RowMaker:
    """See the module. Counters: what came of messages and rows."""

    def __init__(self, buses: Sequence[MqttBus], memory: MqttMemory, stamp: Stamp) -> None:
        self.counters = dict.fromkeys(
            (
                "messages", "readings", "historical", "notices", "broken", "unknown", "stray", "retained", "repeats",
                "redelivered", "acknowledged", "gaps", "missing", "arrival_times", "rebirths",
            ),
            0,
        )  # fmt: skip
        self.last_seen: dict[str, int] = {}
        self._buses = buses
        self._memory = memory
        self._stamp = stamp
        self._complaints = Complaints()
        self._nodes: dict[tuple[str, str], EdgeNode] = {}
        self._asked: dict[tuple[str, str], int] = {}
        self._said: dict[str, tuple[str, int]] = {}

    def take(self, delivery: Delivery, now: int, batch: Batch) -> None:
        """Add to `batch` what one delivery means. now: [ms UTC]."""
        self.counters["messages"] += 1
        bus = next((bus for bus in self._buses if bus.listens_to(delivery.topic)), None)
        if bus is None:
            self.counters["stray"] += 1
            self._complain(batch, now, "stray_topic", delivery.topic, "is on no bus of the plan")
        elif delivery.retain:
            # what a broker keeps was true some time ago, and it shows it again at every connection: never new
            self.counters["retained"] += 1
            text = "retained message: old data are not taken as new"
            self._complain(batch, now, "retained", delivery.topic, text, kind="security")
        else:
            try:
                self._take(bus, delivery, now, batch)
            except ProtocolError as error:
                self._refuse(delivery, error, now, batch)
            except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
                # a fault of ours: without an answer the broker would bring the message again and again
                _log.exception("message not understood", topic=delivery.topic[:200])
                self._refuse(delivery, FrameError(f"not understood: {error!r}"[:200]), now, batch)

    def _take(self, bus: MqttBus, delivery: Delivery, now: int, batch: Batch) -> None:
        if bus.speaks_sparkplug and delivery.topic.startswith(sparkplug_b.NAMESPACE + "/"):
            self._take_sparkplug(bus, delivery, now, batch)
            return
        message, meter, late = _parse(bus, delivery)
        if meter is None:
            self._unknown(message.device, delivery.topic, now, batch)
        elif isinstance(message, Notice):
            self.counters["notices"] += 1
        else:
            strong = self._watch_counter(bus, meter, message, delivery, now, batch)
            if self._says_it_again(meter, message, now):
                self.counters["repeats"] += 1
                return
            self._rows(bus, meter, message.samples, delivery, now, batch, strong=strong, reason=late)

    def _refuse(self, delivery: Delivery, error: ProtocolError, now: int, batch: Batch) -> None:
        self.counters["broken"] += 1
        sort = getattr(error, "sort", "") or "format"
        kind: EventKind = "security" if sort == "identity" else "read_failed"
        head = delivery.payload[:32].hex()
        text = f"{error.message}; {len(delivery.payload)} bytes, beginning with {head or 'nothing'}"
        self._complain(batch, now, sort, delivery.topic, text, kind=kind)

    def _unknown(self, device: str, topic: str, now: int, batch: Batch) -> None:
        self.counters["unknown"] += 1
        self._complain(
            batch, now, "unknown_device", device, f"on {topic[:80]}: the plan has no meter for this device"
        )

    def _complain(
        self,
        batch: Batch,
        now: int,
        cause: str,
        subject: str,
        text: str,
        *,
        kind: EventKind = "read_failed",
        meter: str = "",
    ) -> None:
        if count := self._complaints.note(cause, subject[:200], now):
            said = f"{subject[:128]}: {text}"[:500]
            batch.rows.append(Event(kind=kind, at=now, meter=meter, cause=cause[:48], count=count, text=said))

    # --- counters and repeats

    def _watch_counter(
        self, bus: MqttBus, meter: MqttMeter, message: Readings, delivery: Delivery, now: int, batch: Batch
    ) -> bool:
        """Report what is missing before this message. True: the message carries what tells it from all others."""
        counter = message.counter
        if counter is None:
            return bool(message.dedup) and not meter.profile.repeat_s
        device = f"{bus.name}/{device_key(meter.device)}"
        last = batch.counters.get(device, self._memory.counters.get(device))
        found = step(last, counter.value, counter.modulus, again=_is_again(delivery))
        if found.last != last:
            batch.counters[device] = found.last
        if found.missing:
            text = f"{found.missing} messages of {meter.device} are missing between {last} and {counter.value}"
            self._gap(batch, now, meter.meter, "counter", found.missing, text)
        elif found.restarted:
            text = (
                f"the counter of {meter.device} went from {last} to {counter.value}; what lies between is not known"
            )
            self._gap(batch, now, meter.meter, "counter_restart", 1, text)
        return counter.modulus is None or counter.modulus >= 1 << 16

    def _gap(self, batch: Batch, now: int, meter: str, cause: str, count: int, text: str) -> None:
        self.counters["gaps"] += 1
        self.counters["missing"] += count
        count = min(count, 2**31 - 1)
        batch.rows.append(Event(kind="counter_gap", at=now, meter=meter, cause=cause, count=count, text=text[:500]))

    def _says_it_again(self, meter: MqttMeter, message: Readings, now: int) -> bool:
        """One radio telegram heard by two receivers. By the rows' own times: after an outage hours arrive at once."""
        if not meter.profile.repeat_s or not message.dedup:
            return False
        at = message.samples[-1].read_at
        at = now if at is None else at
        said, since = self._said.get(meter.meter, ("", 0))
        if said == message.dedup and abs(at - since) < 1000 * min(meter.profile.repeat_s, meter.interval_s / 2):
            return True
        self._said[meter.meter] = (message.dedup, at)
        return False

    # --- rows

    def _rows(
        self,
        bus: MqttBus,
        meter: MqttMeter,
        samples: Sequence[Sample],
        delivery: Delivery,
        now: int,
        batch: Batch,
        *,
        strong: bool = False,
        reason: str = "",
    ) -> None:
        """Give every row its time: its own when it can be true, else that of the arrival, and then it is doubted."""
        self.last_seen[meter.meter] = now
        lost: list[tuple[Sample, str]] = []
        for sample in samples:
            self.counters["readings"] += 1
            self.counters["historical"] += sample.historical
            if sample.read_at is None:
                lost.append((sample, reason or "no_time"))
                continue
            verdict = judge_time(sample.read_at, now, _LIMITS)
            if verdict.decision == "quarantine":
                lost.append((sample, verdict.reason))
            else:
                quality = "valid" if verdict.decision == "admit" else "suspect"
                row = _reading(meter, sample, sample.read_at)
                row.quality, row.reason = quality, verdict.reason  # type: ignore[assignment]  # one of two words
                batch.rows.append(row)
        if lost:
            lost.sort(key=lambda pair: -1 if pair[0].read_at is None else pair[0].read_at)  # the index stays in order
            self._stamp_rows(bus, meter, lost, delivery, now, batch, strong=strong)

    def _stamp_rows(
        self,
        bus: MqttBus,
        meter: MqttMeter,
        lost: Sequence[tuple[Sample, str]],
        delivery: Delivery,
        now: int,
        batch: Batch,
        *,
        strong: bool,
    ) -> None:
        digest = hashlib.blake2b(
            delivery.topic.encode("utf-8", "replace") + b"\0" + delivery.payload, digest_size=16
        ).digest()
        same_ms = 1000 * min(bus.same_payload_s, meter.interval_s / 2)  # a meter at rest says the same again in time
        for part, (sample, reason) in enumerate(lost):
            key = (meter.meter, digest, part)
            before = batch.stamps.get(key, self._memory.stamps.get(key))
            known = before is not None and (strong or _is_again(delivery) or abs(now - before) < same_ms)
            if before is not None and known:
                self.counters["redelivered"] += 1
                at = before
            else:
                at = batch.stamps[key] = self._stamp(meter.meter, now)
            row = _reading(meter, sample, at)
            if reason != "no_time" or meter.profile.arrival == "suspect":
                row.quality, row.reason = "suspect", reason
            self.counters["arrival_times"] += 1
            batch.rows.append(row)

    # --- Sparkplug B

    def _take_sparkplug(self, bus: MqttBus, delivery: Delivery, now: int, batch: Batch) -> None:
        where = sparkplug_b.parse_topic(delivery.topic)
        if where.type in ("STATE", "NCMD", "DCMD"):
            self.counters["notices"] += 1
            return
        name = device_key(f"{where.group}/{where.edge}")
        if not any(device == name or device.startswith(name + "/") for device in bus.meters):
            self._unknown(f"{where.group}/{where.edge}", delivery.topic, now, batch)
            return
        place = (where.group, where.edge)
        outcome = self._nodes.setdefault(place, EdgeNode()).apply(where, sparkplug_b.decode(delivery.payload))
        device = sparkplug_device(where)
        meter = bus.meters.get(device_key(device))
        self._sparkplug_state(outcome, place, device, meter, now, batch)
        if meter is not None and meter.profile.protocol == SPARKPLUG:
            self._sparkplug_problems(outcome, meter, now, batch)
            samples = sparkplug.to_samples(outcome, meter.profile.json.fields)
            self._rows(bus, meter, samples, delivery, now, batch)
        elif where.device and outcome.metrics:
            self._unknown(device, delivery.topic, now, batch)
        else:
            self.counters["notices"] += 1

    def _sparkplug_state(
        self,
        outcome: Outcome,
        place: tuple[str, str],
        device: str,
        meter: MqttMeter | None,
        now: int,
        batch: Batch,
    ) -> None:
        who = meter.meter if meter is not None else ""
        if outcome.missing:
            text = f"{outcome.missing} messages of node {'/'.join(place)} are missing (seq)"
            self._gap(batch, now, who, "seq", outcome.missing, text)
        if outcome.kind == "death":
            self._complain(batch, now, "offline", device, "Sparkplug says that it is offline", meter=who)
        if not outcome.rebirth:
            return
        if outcome.kind == "ignored" or outcome.unresolved:
            self._complain(batch, now, "no_birth", device, f"values not taken: {outcome.rebirth}", meter=who)
        if abs(now - self._asked.get(place, -_REBIRTH_EVERY_MS)) >= _REBIRTH_EVERY_MS:
            self._asked[place] = now
            self.counters["rebirths"] += 1
            batch.rebirths.append(place)

    def _sparkplug_problems(self, outcome: Outcome, meter: MqttMeter, now: int, batch: Batch) -> None:
        wanted = {rule.path for rule in meter.profile.json.fields}
        for metric in outcome.metrics:
            if metric.problem and metric.name in wanted:
                text = f"metric {metric.name}: {metric.problem}"
                self._complain(batch, now, "value", meter.device, text, meter=meter.meter)


def _parse(bus: MqttBus, delivery: Delivery) -> tuple[Message, MqttMeter | None, str]:
    """Read a message by the profile of the meter that it names.

    Returns message, meter (None when the plan has none for it), and why its rows have no time of their own, else "".

    Raises: FrameError of the profile that came nearest.
    """
    failure: FrameError | None = None
    stranger: Message | None = None
    for profile in bus.profiles:
        if profile.protocol == SPARKPLUG:
            continue
        try:
            message, late = _parse_by(profile, delivery)
        except FrameError as error:
            failure = failure or error
            continue
        meter = bus.meters.get(device_key(message.device))
        if meter is not None and meter.profile is profile:
            return message, meter, late
        stranger = message if meter is None else stranger
    if stranger is not None and failure is None:
        return stranger, None, ""
    raise failure or FrameError("the device's profile does not read this message", delivery.payload[:64])


def _parse_by(profile: MqttProfile, delivery: Delivery) -> tuple[Message, str]:
    parse = DIALECTS[profile.protocol]
    try:
        return parse(delivery.topic, delivery.payload, profile.json), ""
    except FrameError as error:
        if error.sort != "time" or profile.json.time is None:
            raise
    # a clock that says 0000-00-00: the values are as good as those of a clock that says 1970
    return parse(delivery.topic, delivery.payload, replace(profile.json, time=None)), "time_unreadable"


def _reading(meter: MqttMeter, sample: Sample, at: int) -> Reading:
    said = sample.read_at
    return Reading(
        meter=meter.meter,
        read_at=at,
        values=sample.values,
        meter_time=said if said is not None and 0 <= said <= _LATEST_MS else None,
        source="push",
        flags=sample.flags,
    )


def _is_again(delivery: Delivery) -> bool:
    return delivery.dup


def silent(buses: Sequence[MqttBus], last_seen: Mapping[str, int], started: int, now: int) -> int:
    """Return how many meters sent nothing for three of their intervals. started, now: [ms UTC]."""
    return sum(
        now - max(started, last_seen.get(meter.meter, 0)) > 3000 * meter.interval_s
        for bus in buses
        for meter in bus.meters.values()
    )
