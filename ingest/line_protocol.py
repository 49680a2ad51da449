"""Readings as lines for InfluxDB, and back: typed per field, exact, and without any text but the meter's id.

    reading,meter=WM-1 volume=123400000e-6,received_at=…i,meter_time=-1i,quality=0i,source=0i,flags=0i,reason=0i T

- The only tag is `meter`. What a line cannot carry (control characters; `\\`, whose meaning there depends on what
  follows) and `%` itself travel as `%0A`, `%5C`, `%25`; every other character as itself. So every id comes back
  exactly, and two ids never meet in one series.
- One float field per quantity, in the natural unit: exact to 15 digits, recovered by rounding to 10⁻⁶; a value with
  more digits than a float keeps is refused. Written as our integer with the exponent -6, which every server reads as
  the same float as the decimal point would give, and which Python writes in a fifth of the time.
- Everything else is an integer field and is written every time, so that a row written again replaces all of it:
  received_at and meter_time [ms UTC], -1 for none; quality and source are places in `QUALITIES` and `SOURCES`;
  flags as in `Flag`; reason as 12 letters of base 38 (`reason_codes`), further letters in reason_2 … reason_6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote

from metering.admission import EXACT_MICRO
from metering.quantities import INT64_MAX, MICRO, QUANTITIES, Quantity, survives_float
from metering.reading import QUALITIES, SOURCES, Reading

MEASUREMENT: Final = "reading"
LAST_MS: Final = 9_223_372_036_854
"""[ms UTC] Times in InfluxDB are int64 nanoseconds: 2262-04-11."""

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789_"
_BASE: Final = len(_LETTERS) + 1  # 0 ends a reason
_PER_FIELD: Final = 12  # 38¹² = 9.07e18 fits int64
_PLACE: Final = {letter: place for place, letter in enumerate(_LETTERS, 1)}
_NONE: Final = -1
_UNSAFE: Final = re.compile(r"[%\\\x00-\x1f\x7f-\x9f]")
_QUALITY_CODE: Final[dict[str, int]] = {word: code for code, word in enumerate(QUALITIES)}
_SOURCE_CODE: Final[dict[str, int]] = {word: code for code, word in enumerate(SOURCES)}
_CACHED: Final = 1_000_000


class NotWritableError(ValueError):
    """This reading cannot be a line; the text says why."""


def tag_of(meter: str) -> str:
    """Return the tag value of a meter id."""
    return _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), meter)


def meter_of(tag: str) -> str:
    """Return the meter id of a tag value."""
    return unquote(tag, errors="strict") if "%" in tag else tag


def reason_codes(reason: str) -> list[int]:
    """Return the integers that spell a reason: 12 letters each, the first letter in the lowest digit, 0 ends it.

    Raises: NotWritableError when it is more than a code of a-z, 0-9 and _, or longer than 64.
    """
    if len(reason) > 64 or any(letter not in _PLACE for letter in reason):
        raise NotWritableError(f"reason {reason[:64]!r} is not a code of a-z, 0-9 and _")
    codes = []
    for start in range(0, len(reason) + 1, _PER_FIELD):
        part = reason[start : start + _PER_FIELD]
        codes.append(sum(_PLACE[letter] * _BASE**power for power, letter in enumerate(part)))
    return codes


def reason_of(codes: Sequence[int | None]) -> str:
    """Return the reason that `reason_codes` spelled; what stands behind its end is left from a longer, older one."""
    letters: list[str] = []
    for code in codes:
        rest = code or 0
        for _ in range(_PER_FIELD):
            rest, place = divmod(rest, _BASE)
            if not place:
                return "".join(letters)
            letters.append(_LETTERS[place - 1])
    return "".join(letters)


class Encoder:
    """Makes lines. Remembers the heads of meters and the tails of states: they come again with every reading."""

    def __init__(self, measurement: str = MEASUREMENT) -> None:
        self._measurement = measurement
        self._heads: dict[str, str] = {}
        self._tails: dict[tuple[str, str, int, str], str] = {}

    def lines(
        self, readings: Sequence[Reading], places: Iterable[int]
    ) -> tuple[list[str], list[int], dict[int, str]]:
        """Return the lines of readings[place] for each of `places`, their places, and place -> why not of the rest.

        Half of what a reading costs ingest lies here, so that the ordinary one goes the short way.
        """
        heads, tails = self._heads, self._tails
        found: list[str] = []
        written: list[int] = []
        refused: dict[int, str] = {}
        for place in places:
            reading = readings[place]
            head = heads.get(reading.meter)
            tail = tails.get((reading.quality, reading.source, reading.flags, reading.reason))
            fields = ""
            for quantity, micro in reading.values.items():
                if not 0 <= micro < EXACT_MICRO:
                    head = None
                    break
                fields += f"{quantity}={micro}e-6,"
            received_at, meter_time, read_at = reading.received_at, reading.meter_time, reading.read_at
            if head and tail and fields and received_at is not None and read_at <= LAST_MS:
                if meter_time is None:
                    meter_time = _NONE
                found.append(f"{head}{fields}received_at={received_at}i,meter_time={meter_time}i{tail}{read_at}")
                written.append(place)
                continue
            try:
                found.append(self.line(reading))
                written.append(place)
            except NotWritableError as error:
                refused[place] = str(error)
        return found, written, refused

    def line(self, reading: Reading) -> str:
        """Return the line of a reading, times in ms. Raises: NotWritableError."""
        head = self._heads.get(reading.meter) or self._head(reading.meter)
        state = reading.quality, reading.source, reading.flags, reading.reason
        tail = self._tails.get(state) or self._tail(state)
        if not reading.values:
            raise NotWritableError("no quantity")
        if reading.read_at > LAST_MS:
            raise NotWritableError(f"read_at {reading.read_at} is after the year 2262, where InfluxDB's time ends")
        fields = "".join([_field(quantity, micro) for quantity, micro in reading.values.items()])
        received_at = _NONE if reading.received_at is None else reading.received_at
        meter_time = _NONE if reading.meter_time is None else reading.meter_time
        return f"{head}{fields}received_at={received_at}i,meter_time={meter_time}i{tail}{reading.read_at}"

    def problem(self, reading: Reading) -> str | None:
        """Return why a reading cannot be a line, None when it can."""
        try:
            self.line(reading)
        except NotWritableError as error:
            return str(error)
        return None

    def _head(self, meter: str) -> str:
        if not meter:
            raise NotWritableError("empty meter id")
        try:
            meter.encode()
        except UnicodeEncodeError:
            raise NotWritableError("the meter id holds half a character") from None
        tag = re.sub("([, =])", r"\\\1", tag_of(meter))
        if len(self._heads) >= _CACHED:
            self._heads.clear()
        head = self._heads[meter] = f"{self._measurement},meter={tag} "
        return head

    def _tail(self, state: tuple[str, str, int, str]) -> str:
        quality, source, flags, reason = state
        codes = reason_codes(reason)
        more = "".join(f",reason_{number}={code}i" for number, code in enumerate(codes[1:], 2))
        if len(self._tails) >= _CACHED:
            self._tails.clear()
        numbers = f",quality={_QUALITY_CODE[quality]}i,source={_SOURCE_CODE[source]}i,flags={flags}i"
        tail = self._tails[state] = f"{numbers},reason={codes[0]}i{more} "
        return tail


def _field(quantity: Quantity, micro: int) -> str:
    if not -INT64_MAX <= micro <= INT64_MAX:
        raise NotWritableError(f"{quantity} outside int64")
    if not survives_float(micro):
        raise NotWritableError(f"{quantity} = {micro} has more digits than a float keeps")
    # InfluxDB 3's parser once took no sign before an exponent without a point
    return f"{quantity}={micro}e-6," if micro >= 0 else f"{quantity}={micro}.0e-6,"


STATE_FIELDS: Final = ("received_at", "meter_time", "quality", "source", "flags", "reason")
REASON_FIELDS: Final = ("reason", *(f"reason_{number}" for number in range(2, 7)))


def readings_of(tag: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[Reading]:
    """Yield the readings in rows of one series as /query answers them with epoch=ms.

    A row without any of our state fields is not ours and is passed over.
    """
    meter = meter_of(tag)
    at = {name: place for place, name in enumerate(columns)}
    if any(name not in at for name in ("time", *STATE_FIELDS)):
        return
    time, received_at, meter_time, quality, source, flags, _ = (at[name] for name in ("time", *STATE_FIELDS))
    reasons = [at[name] for name in REASON_FIELDS if name in at]
    quantities = [(name, at[name]) for name in QUANTITIES if name in at]
    for row in rows:
        if row[quality] is None:
            continue
        yield Reading(
            meter,
            row[time],
            {name: round(row[place] * MICRO) for name, place in quantities if row[place] is not None},
            meter_time=_time(row[meter_time]),
            received_at=_time(row[received_at]),
            quality=QUALITIES[row[quality]],
            reason=reason_of([row[place] for place in reasons]) if row[reasons[0]] else "",
            source=SOURCES[row[source]],
            flags=row[flags],
        )


def _time(ms: int | None) -> int | None:
    return None if ms is None or ms == _NONE else ms
