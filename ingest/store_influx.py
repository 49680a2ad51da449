"""Readings in an InfluxDB: 1.x by `/write`, 1.8, 2.x and 3 by `/api/v2/write`; read by InfluxQL from all of them.

- A write that the server refuses (400, 413, 422) is cut in halves until the bad rows stand alone: those come back
  refused, with the server's words, and all others are written. Its message alone does not tell which they are, and
  of the others some may be stored already, which idempotent keys make harmless.
- Everything else (401, 403, 404, 5xx, silence, limits of the server) is a `StoreError`: the same batch comes again.
- A look back: once a second a few rows just written are asked for. There are servers, and things in front of them,
  that say 204 and drop; such a batch is never acknowledged.
- Rows of one key in one batch are merged before they travel, so that no order on the wire matters.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Final, Literal

import structlog

from ingest.line_protocol import MEASUREMENT, Encoder, tag_of
from ingest.settings import InfluxSettings
from ingest.store_influx_http import Answer, ClientWriter, Crew, Links, PlainWriter, Writer
from ingest.store_influx_queries import NAMES, Queries
from metering.clock import Clock
from metering.errors import StoreError
from metering.quantities import Quantity
from metering.reading import Reading
from metering.store import Key

_LINES: Final = 5000  # in one post at most
_FEW: Final = 500  # below this one post is quicker than two
_REFUSALS: Final = frozenset({400, 413, 422})
_LIMITS: Final = ("max-series-per-database", "max-values-per-tag", "database is required", "cache-max-memory")
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_STEPS_MS: Final = (2 * _DAY_MS, 62 * _DAY_MS)  # how far back "the last one" is looked for before all time is
_WALK_S: Final = 60.0
_LOOKS: Final = 5
_LOOK_PAUSE_S: Final = 0.05

_log = structlog.get_logger("ingest")
_key = attrgetter("meter", "read_at")


class InfluxStore:
    """A `ReadingStore` in an InfluxDB. `mode` "write" makes the database or bucket when that is allowed.

    Writing is for one thread; reading for any. `counters`: posts, bisected, refused, read_back, read_back_failed.
    """

    def __init__(
        self,
        settings: InfluxSettings,
        *,
        mode: Literal["write", "read"],
        clock: Clock,
        measurement: str = MEASUREMENT,
    ) -> None:
        """Nothing is opened yet: a server that is away fails the calls, not the start."""
        self.settings = settings
        self.counters: Counter[str] = Counter()
        self._clock = clock
        self._encoder = Encoder(measurement)
        self._links = Links(settings)
        self._queries = Queries(settings, self._links, measurement)
        self._writer: Writer | None = None
        if mode == "write":
            self._writer = PlainWriter(settings, self._links) if settings.wire == "v1" else ClientWriter(settings)
        self._crew = Crew(settings.connections if mode == "write" else 1)
        self._reads_only = self._made = mode == "read"
        self._refusal = ""
        self._looked_at: float | None = None
        self._walk: tuple[float, list[str]] = (0.0, [])

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, readings: Sequence[Reading]) -> list[str | None]:
        """See `ReadingStore.write`. Refused one by one: what is no line (`Encoder`), and what the server refuses."""
        if self._writer is None:
            raise StoreError("this InfluxDB was opened for reading only")
        with self._database():
            return self._write(self._writer, readings)

    def _write(self, writer: Writer, readings: Sequence[Reading]) -> list[str | None]:
        rows, places = self._merged(readings)
        verdicts: list[str | None] = [None] * len(rows)
        jobs = [
            self._crew.put(partial(self._post_all, writer, *self._encode(rows, range(start, end), verdicts)))
            for start, end in _cuts(len(rows), self.settings.connections)
        ]
        self._crew.help()
        errors = []
        for job in jobs:
            try:
                for place, reason in job.result().items():
                    verdicts[place] = reason
            except StoreError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        self.counters["refused"] += sum(verdict is not None for verdict in verdicts)
        self._look_back([row for row, verdict in zip(rows, verdicts, strict=True) if verdict is None])
        return verdicts if places is None else [verdicts[place] for place in places]

    def _merged(self, readings: Sequence[Reading]) -> tuple[Sequence[Reading], list[int] | None]:
        """Return one row per key, and for each reading the place of its row (None: every reading is its own row)."""
        if len(set(map(_key, readings))) == len(readings):
            return readings, None
        rows: list[Reading] = []
        place_of: dict[Key, int] = {}
        places = []
        for reading in readings:
            place, key = len(rows), _key(reading)
            if self._encoder.problem(reading) is None:  # a row that is refused is refused alone
                place = place_of.setdefault(key, len(rows))
            if place == len(rows):
                rows.append(reading)
            else:
                rows[place] = _overlay(rows[place], reading)
            places.append(place)
        return rows, places

    def _encode(
        self, rows: Sequence[Reading], wanted: range, verdicts: list[str | None]
    ) -> tuple[list[str], list[int]]:
        """Return the lines of the `wanted` rows and the places they come from; the others get their verdict."""
        lines, places, refused = self._encoder.lines(rows, wanted)
        for place, reason in refused.items():
            verdicts[place] = reason
        return lines, places

    def _post_all(self, writer: Writer, lines: list[str], places: list[int]) -> dict[int, str]:
        """Post lines; return what was refused by its place. Raises: StoreError."""
        if not lines:
            return {}
        answer = writer.post("\n".join(lines).encode())
        self.counters["posts"] += 1
        if answer.ok:
            return {}
        if answer.status not in _REFUSALS or any(limit in answer.text for limit in _LIMITS):
            raise StoreError(f"the InfluxDB answers a write with {_words(answer)}")
        if len(lines) == 1:
            return {places[0]: _words(answer)}
        self.counters["bisected"] += 1
        half = len(lines) // 2
        first = self._post_all(writer, lines[:half], places[:half])
        return first | self._post_all(writer, lines[half:], places[half:])

    def _look_back(self, written: Sequence[Reading]) -> None:
        """Now and then see whether rows just written are there. Raises: StoreError when they are not."""
        now = self._clock.monotonic()
        due = self._looked_at is None or now - self._looked_at >= self.settings.read_back_s
        sample = _sample(written, self.settings.read_back_rows)
        if not due or not sample:
            return
        self.counters["read_back"] += 1
        keys = [(row.meter, row.read_at) for row in sample]
        missed = ""
        for look in range(_LOOKS):  # a cluster may need a moment
            found = self._get(set(keys))
            missed = next(
                filter(None, (_missed(row, found.get(key)) for row, key in zip(sample, keys, strict=True))), ""
            )
            if not missed:
                self._looked_at = now
                return
            self._clock.pause(_LOOK_PAUSE_S * 2**look)
        self.counters["read_back_failed"] += 1
        raise StoreError(f"the InfluxDB said yes to a reading, but {missed}")

    @contextmanager
    def _database(self) -> Iterator[None]:
        """Make the database or bucket when it was not made yet, or when something failed since."""
        try:
            if not self._made:
                refusal = self._create()
                if refusal and refusal != self._refusal:  # it may exist all the same; if not, the next call says so
                    _log.warning("store not created", server=self.settings.url, answer=refusal)
                self._made, self._refusal = True, refusal
            yield
        except StoreError:
            self._made = self._reads_only
            raise

    def _create(self) -> str:
        """Make the database or bucket unless it is there; return "" or why that was not allowed."""
        days = self.settings.retention_days
        if isinstance(self._writer, ClientWriter):
            answer = self._writer.create_bucket(days)
            return "" if answer.ok else _words(answer)
        duration = f" WITH DURATION {days}d" if days else ""
        return self._queries.command(f'CREATE DATABASE "{self.settings.database}"{duration}')

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, keys: Sequence[Key]) -> dict[Key, Reading]:
        """See `ReadingStore.get`. Keys of one hour are asked for together, as the range from first to last."""
        with self._database():
            return self._get(set(keys))

    def _get(self, wanted: set[Key]) -> dict[Key, Reading]:
        hours: dict[int, list[Key]] = defaultdict(list)
        for key in wanted:
            hours[key[1] // _HOUR_MS].append(key)
        found: dict[Key, Reading] = {}
        for group in hours.values():
            times = [read_at for _, read_at in group]
            for names in _chunks(sorted({meter for meter, _ in group})):
                for reading in self._queries.readings(names, min(times), max(times) + 1):
                    key = reading.meter, reading.read_at
                    if key in wanted:
                        found[key] = reading
        return found

    def range(
        self,
        meters: Sequence[str] | None,
        t0: int,
        t1: int,
        *,
        quantities: Sequence[Quantity] | None = None,
        limit: int | None = None,
        after: Key | None = None,
    ) -> Iterator[Reading]:
        """See `ReadingStore.range`. Pages of all meters (`after`) go by a list of them that is up to a minute old."""
        if limit is not None and limit <= 0:
            return
        with self._database():
            found = self._walk_through(self._names(meters, after), t0, t1, quantities, limit, after)
            yield from found if limit is None else islice(found, limit)

    def _walk_through(
        self,
        names: Sequence[str],
        t0: int,
        t1: int,
        quantities: Sequence[Quantity] | None,
        limit: int | None,
        after: Key | None,
    ) -> Iterator[Reading]:
        ask = partial(self._queries.readings, quantities=quantities, limit=None if quantities else limit)
        if after is not None and names and names[0] == after[0]:
            yield from ask(names[:1], max(t0, after[1] + 1), t1)
            names = names[1:]
        for chunk in _runs(names):
            yield from ask(chunk, t0, t1)

    def _names(self, meters: Sequence[str] | None, after: Key | None) -> list[str]:
        if meters is not None:
            names = sorted(set(meters))
        else:
            listed_at, names = self._walk
            now = self._clock.monotonic()
            if after is None or not names or now - listed_at > _WALK_S:
                names = self._queries.meters()
                self._walk = now, names
        return names if after is None else [name for name in names if name >= after[0]]

    def at_or_before(self, meters: Sequence[str], t: int, *, quantity: Quantity | None = None) -> dict[str, Reading]:
        """See `ReadingStore.at_or_before`. Looks at the last days first: older shards cost far more."""
        found: dict[str, Reading] = {}
        left = sorted(set(meters))
        start = min(t, self._clock.now_ms())
        with self._database():
            for t0 in (*(start - step for step in _STEPS_MS), 0):
                for names in _chunks(left):
                    found.update(self._last(names, t0, t + 1, quantity))
                left = [meter for meter in left if meter not in found]
        return found

    def _last(self, names: Sequence[str], t0: int, t1: int, quantity: Quantity | None) -> dict[str, Reading]:
        if quantity is None:
            return {reading.meter: reading for reading in self._queries.readings(names, t0, t1, last=True)}
        keys = set(self._queries.last_times(names, t0, t1, quantity))
        return {meter: reading for (meter, _), reading in self._get(keys).items()}

    def counts(self, t0: int, t1: int) -> dict[str, int]:
        """See `ReadingStore.counts`."""
        with self._database():
            return dict(self._queries.counts(t0, t1))

    def close(self) -> None:
        """Close every connection."""
        self._crew.close()
        if self._writer is not None:
            self._writer.close()
        self._links.close()


def _overlay(first: Reading, second: Reading) -> Reading:
    return Reading(
        second.meter,
        second.read_at,
        first.values | second.values,
        meter_time=second.meter_time,
        received_at=second.received_at,
        quality=second.quality,
        reason=second.reason,
        source=second.source,
        flags=second.flags,
    )


def _cuts(count: int, hands: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what travels in one post."""
    posts = max(-(-count // _LINES), hands if count >= _FEW else 1)
    step = max(1, -(-count // posts))
    return ((start, min(count, start + step)) for start in range(0, count, step))


def _chunks(names: Sequence[str]) -> Iterable[Sequence[str]]:
    return (names[start : start + NAMES] for start in range(0, len(names), NAMES))


def _runs(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Like `_chunks`, but ids that travel spelled differently stand alone: the server sorts by their spelling."""
    start = 0
    for place, name in enumerate(names):
        if tag_of(name) != name:
            yield from _chunks(names[start:place])
            yield (name,)
            start = place + 1
    yield from _chunks(names[start:])


def _sample(rows: Sequence[Reading], count: int) -> list[Reading]:
    """Return up to `count` rows, evenly from first to last."""
    if len(rows) <= count:
        return list(rows)
    return [rows[step * (len(rows) - 1) // max(1, count - 1)] for step in range(count)]


def _missed(wanted: Reading, found: Reading | None) -> str:
    """Return what is wrong with what came back, "" when nothing is."""
    if found is None:
        return f"does not have it: {wanted.meter!r} at {wanted.read_at}"
    differing = [name for name, micro in wanted.values.items() if found.values.get(name) != micro]
    return f"gives other values of {wanted.meter!r} at {wanted.read_at}: {', '.join(differing)}" if differing else ""


def _words(answer: Answer) -> str:
    return f"{answer.status} {answer.text.strip()}".strip()
