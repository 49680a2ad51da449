"""What InfluxQL is asked on `/query`, the one language that 1.x, 2.x and 3 share.

Meter ids travel as bound parameters, never inside the text of a statement; times and field names are our own.
Answers are read in chunks, so that a large range needs little memory here and can be left early.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from ingest.line_protocol import LAST_MS, MEASUREMENT, REASON_FIELDS, STATE_FIELDS, meter_of, readings_of, tag_of
from ingest.settings import InfluxSettings
from ingest.store_influx_http import Link, Links
from metering.errors import StoreError
from metering.quantities import Quantity
from metering.reading import Reading

NAMES: Final = 500
"""Meters named in one statement."""

_CHUNK: Final = 5000  # rows in one piece of an answer
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


class Series(msgspec.Struct):
    """Rows of one meter."""

    columns: list[str] = []
    values: list[list[Any]] = []
    tags: dict[str, str] = {}


class _Result(msgspec.Struct):
    series: list[Series] = []
    error: str = ""


class _Body(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


_DECODER: Final = msgspec.json.Decoder(_Body)


class Queries:
    """Asks one database; safe to use from several threads."""

    def __init__(self, settings: InfluxSettings, links: Links, measurement: str = MEASUREMENT) -> None:
        """settings: which server, and database and retention policy (or bucket)."""
        self._links = links
        self._from = f'FROM "{measurement}"'
        database = settings.database if settings.wire == "v1" else settings.bucket
        policy = settings.retention_policy if settings.wire == "v1" else ""
        named = {"db": database, "rp": policy, "epoch": "ms"}
        self._path = "/query?" + urlencode({name: value for name, value in named.items() if value})

    def readings(
        self,
        meters: Sequence[str] | None,
        t0: int,
        t1: int,
        *,
        quantities: Sequence[Quantity] | None = None,
        last: bool = False,
        limit: int | None = None,
    ) -> Iterator[Reading]:
        """Yield readings with t0 <= read_at < t1 by meter and time; last: only the latest of each meter.

        meters: at most `NAMES`; None: all. limit: rows of each meter at most.
        """
        if quantities is None:
            fields = "*"
        else:
            fields = ", ".join(f'"{name}"' for name in (*STATE_FIELDS, *REASON_FIELDS[1:], *quantities))
        tail = " ORDER BY time DESC LIMIT 1" if last else f" LIMIT {limit}" if limit is not None else ""
        for series in self._ask(f"SELECT {fields} {self._from} WHERE", meters, t0, t1, tail):
            for reading in readings_of(series.tags.get("meter", ""), series.columns, series.values):
                if quantities is None or reading.values:
                    yield reading

    def last_times(self, meters: Sequence[str], t0: int, t1: int, quantity: Quantity) -> Iterator[tuple[str, int]]:
        """Yield (meter, read_at) of each meter's latest row that carries `quantity`."""
        tail = " ORDER BY time DESC LIMIT 1"
        for series in self._ask(f'SELECT "{quantity}" {self._from} WHERE', meters, t0, t1, tail):
            yield meter_of(series.tags.get("meter", "")), series.values[0][0]

    def counts(self, t0: int, t1: int) -> Iterator[tuple[str, int]]:
        """Yield (meter, readings) with t0 <= read_at < t1; every reading has the field `quality`."""
        for series in self._ask(f'SELECT count("quality") {self._from} WHERE', None, t0, t1, ""):
            yield meter_of(series.tags.get("meter", "")), series.values[0][1]

    def meters(self) -> list[str]:
        """Return every meter that the server knows, in order."""
        statement = f'SHOW TAG VALUES {self._from} WITH KEY = "meter"'
        return sorted(meter_of(row[1]) for series in self._stream(statement, {}) for row in series.values)

    def command(self, statement: str) -> str:
        """Run a statement that changes the server; return "" or what it says against it. Raises: StoreError."""
        body = urlencode({"q": statement}).encode()
        with self._links.taken() as link:
            answer = link.ask("/query", body, _FORM)
            text = link.read(answer).decode("utf-8", "replace")
        try:
            said = _DECODER.decode(text)
        except msgspec.MsgspecError:
            return f"answer {answer.status}: {text[:200]}"
        return said.error or next((result.error for result in said.results if result.error), "")

    def _ask(self, select: str, meters: Sequence[str] | None, t0: int, t1: int, tail: str) -> Iterator[Series]:
        t0, t1 = max(t0, -LAST_MS), min(t1, LAST_MS + 1)
        if t0 >= t1 or (meters is not None and not meters):
            return
        names = {f"m{place}": tag_of(meter) for place, meter in enumerate(meters or ())}
        whose = " OR ".join(f'"meter" = ${name}' for name in names)
        where = f"time >= {t0}ms AND time <= {t1 - 1}ms" + (f" AND ({whose})" if names else "")
        yield from self._stream(f'{select} {where} GROUP BY "meter"{tail}', names)

    def _stream(self, statement: str, names: dict[str, str]) -> Iterator[Series]:
        form = {
            "q": statement,
            "params": msgspec.json.encode(names).decode(),
            "chunked": "true",
            "chunk_size": _CHUNK,
        }
        with self._links.taken() as link:
            answer = link.ask(self._path, urlencode(form).encode(), _FORM)
            if answer.status != 200:
                text = link.read(answer).decode("utf-8", "replace")[:300]
                raise StoreError(f"the InfluxDB refuses a query with {answer.status}: {text.strip()}")
            yield from _series(link, answer)


def _series(link: Link, answer: Any) -> Iterator[Series]:
    for line in link.lines(answer):
        if not line.strip():
            continue
        try:
            body = _DECODER.decode(line)
        except msgspec.MsgspecError as error:
            raise StoreError(f"the InfluxDB's answer cannot be read: {error}") from error
        if body.error:
            raise StoreError(f"the InfluxDB could not answer: {body.error}")
        for result in body.results:
            if result.error:
                raise StoreError(f"the InfluxDB could not answer: {result.error}")
            yield from result.series
