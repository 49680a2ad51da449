"""Set meters' clocks from the gateway's, and read them back: which question does it, what the meter then shows.

CJ/T 188 sets each meter by itself (A015). DL/T 645 tells all meters of the line by broadcast and nobody answers; such
meters move by at most five minutes, once a day. Either way the meter is read afterwards: only its own time proves it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from gateway.drivers.cjt188 import CjtAsk
from gateway.drivers.dlt645 import DltAsk, DltTime
from gateway.items.dlt645 import edition_of
from gateway.plan import PlannedMeter
from gateway.protocols import cjt188
from gateway.protocols.cjt188.message import DI_CURRENT, DI_SET_TIME, WRITE
from gateway.protocols.dlt645 import Edition
from metering.clock import Clock
from metering.errors import FrameError

Put = Callable[[Any, float], Awaitable[bytes]]
"""Puts a question on the meter's bus, with a timeout [s]: `Bus.demand`."""
TOLERANCE_S: Final = 10
"""A clock that is set may differ by this much when it is read back: whole seconds, the wire, the meter's own pace."""
_DATE_AND_TIME: Final[dict[Edition, tuple[int, int]]] = {
    "2007": (0x04000101, 0x04000102),
    "1997": (0xC010, 0xC011),
}


@dataclass(frozen=True, slots=True)
class ClockSet:
    """What became of one meter. shown: [ms UTC] what it showed afterwards, None when it cannot tell."""

    taken: bool
    shown: int | None
    sentence: str


def local_time(clock: Clock, utc_offset_s: int) -> Callable[[], str]:
    """Return what gives the local time of now, to the nearest second: "2026-01-31T23:59:58"."""
    zone = timezone(timedelta(seconds=utc_offset_s))

    def now() -> str:
        return datetime.fromtimestamp((clock.now_ms() + 500) // 1000, zone).strftime("%Y-%m-%dT%H:%M:%S")

    return now


def is_broadcast(meter: PlannedMeter) -> bool:
    """True when its protocol sets all clocks of a line at once."""
    return meter.profile.dialect.protocol.startswith("dlt645")


async def broadcast(put: Put, clock: Clock, utc_offset_s: int) -> None:
    """Tell every DL/T 645 meter of a line what time it is. Raises: MetergateError."""
    await put(DltTime(local_time(clock, utc_offset_s)), 0.0)


async def set_one(put: Put, meter: PlannedMeter, clock: Clock, utc_offset_s: int) -> None:
    """Set one CJ/T 188 meter's clock. Raises: MetergateError."""
    dialect = meter.profile.dialect
    ask = CjtAsk(
        dialect.meter_type, meter.address, DI_SET_TIME, dialect.di_order, WRITE, local_time(clock, utc_offset_s)
    )
    await put(ask, meter.timeout_s)


async def read_back(put: Put, meter: PlannedMeter, clock: Clock, utc_offset_s: int) -> ClockSet:
    """Read the meter's time and judge it. Raises: MetergateError when it does not answer."""
    text = await (_dlt_time(put, meter) if is_broadcast(meter) else _cjt_time(put, meter))
    if text is None:
        said = "it was told the time" if is_broadcast(meter) else "it took the time"
        return ClockSet(not is_broadcast(meter), None, f"{said} and shows no clock that could be read back")
    zone = timezone(timedelta(seconds=utc_offset_s))
    shown = round(datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC).timestamp() * 1000)
    off_s = (shown - clock.now_ms()) / 1000
    if abs(off_s) <= TOLERANCE_S:
        return ClockSet(True, shown, f"it shows {text}, {off_s:+.1f} s")
    return ClockSet(False, shown, f"it did not take the time: it shows {text}, {off_s:+.0f} s")


async def _cjt_time(put: Put, meter: PlannedMeter) -> str | None:
    dialect = meter.profile.dialect
    ask = CjtAsk(dialect.meter_type, meter.address, DI_CURRENT, dialect.di_order)
    data = await put(ask, meter.timeout_s)
    head = DI_CURRENT.to_bytes(2, dialect.di_order) + b"\x00"
    frame = cjt188.Frame(dialect.meter_type, "0" * 14, 0x81, head + data)
    body = cjt188.parse(frame, cjt188.Layout(unit_first=dialect.unit_first), order=dialect.di_order).body
    return body.clock.text if isinstance(body, cjt188.Volumes | cjt188.Heat) else None


async def _dlt_time(put: Put, meter: PlannedMeter) -> str | None:
    """Date and time are two questions; asked across midnight, the date is asked again."""
    edition = edition_of(meter.profile.dialect)
    date_di, time_di = _DATE_AND_TIME[edition]
    date = await _dlt_item(put, meter, date_di, edition)
    time = await _dlt_item(put, meter, time_di, edition)
    if time[:2] == "00":
        date = await _dlt_item(put, meter, date_di, edition)
    text = f"{date}T{time}"
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text


async def _dlt_item(put: Put, meter: PlannedMeter, di: int, edition: Edition) -> str:
    """Return "2026-01-31" for WW DD MM YY, "23:59:58" for ss mm hh."""
    raw = await put(DltAsk(meter.address, di, edition), meter.timeout_s)
    size = 4 if di in (0x04000101, 0xC010) else 3
    if len(raw) < size:
        raise FrameError(f"{len(raw)} bytes of time, {size} are needed", raw, sort="length")
    pieces = [f"{byte:02X}" for byte in raw[:size][::-1]]
    return f"20{pieces[0]}-{pieces[1]}-{pieces[2]}" if size == 4 else ":".join(pieces)
