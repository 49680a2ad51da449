"""Read one meter once and show everything that came: for an engineer at a bus, no outbox, no broker."""

from __future__ import annotations

import random
from dataclasses import dataclass

from gateway.items import ItemRequest, values_of
from gateway.links import make_link
from gateway.meter_poll import MeterPoll, StepMaker
from gateway.plan import PlannedMeter
from gateway.profile import MeterField, decode_field, show
from gateway.requests import Request
from metering.clock import Clock
from metering.errors import FrameError, MeterError, NoAnswerError, ProtocolError
from metering.quantities import UNITS
from metering.reading import Reading


@dataclass(frozen=True, slots=True)
class FieldShown:
    """One field of the answer. value: house-unit decimal, flag names or "not available"; fault: why not."""

    name: str
    quantity: str
    value: str
    unit: str
    function: int
    register: int
    raw: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class PolledOnce:
    """What one reading brought. reading: None when the index did not come, `why` says the reason."""

    meter: str
    port: str
    unit: int
    profile: str
    reading: Reading | None
    fields: list[FieldShown]
    requests: int
    elapsed_ms: int
    why: str = ""


async def poll_once(meter: PlannedMeter, *, clock: Clock) -> PolledOnce:
    """Read one meter.

    Raises: ConnectError, and NoAnswerError when nothing came at all; later faults stand in the result.
    """
    link = make_link(meter.bus, clock=clock, rng=random.Random(0), counters={})
    poll = MeterPoll(meter, StepMaker(), phase=0.0)
    poll.begin(0.0)
    fields: list[FieldShown] = []
    requests, why, begun = 0, "", clock.monotonic()
    try:
        goes_on = True
        while goes_on:
            step = poll.step
            requests += 1
            try:
                data = await link.read(step.ask, meter.timeout_s)
                fields += _shown_all(step.request, data)
                goes_on = poll.answered(data, clock.now_ms())
            except (MeterError, ProtocolError, NoAnswerError) as error:
                if isinstance(error, NoAnswerError) and not fields:
                    raise
                why = str(error)
                goes_on = poll.refused(error)
    finally:
        link.close()
    reading = poll.reading() if poll.has_index else None
    if reading is None and not why:
        why = poll.index_fault()[1]
    elapsed_ms = round((clock.monotonic() - begun) * 1000)
    return PolledOnce(
        meter.meter, link.name, meter.unit, meter.profile.id, reading, fields, requests, elapsed_ms, why
    )


def _shown_all(request: Request | ItemRequest, data: bytes) -> list[FieldShown]:
    if isinstance(request, Request):
        return [_shown(field, data, request.start) for field in request.fields]
    found = values_of(request, data)
    return [_shown_item(field, found[field.name], data) for field in request.fields]


def _shown_item(field: MeterField, value: int | FrameError | None, data: bytes) -> FieldShown:
    unit = UNITS[field.quantity] if field.quantity else ""
    fault = value.message if isinstance(value, FrameError) else ""
    text = "" if isinstance(value, FrameError) else show(field, value)
    return FieldShown(field.name, field.quantity or "", text, unit, 0, 0, data.hex(" ").upper(), fault)


def _shown(field: MeterField, data: bytes, base: int) -> FieldShown:
    begin, end = (field.start - base) * 2, (field.stop - base) * 2
    raw = data[begin:end].hex(" ", 2).upper()
    unit = UNITS[field.quantity] if field.quantity else ""
    value, fault = "", ""
    try:
        value = show(field, decode_field(field, data, base))
    except FrameError as error:
        fault = error.message
    return FieldShown(field.name, field.quantity or "", value, unit, field.function, field.start, raw, fault)
