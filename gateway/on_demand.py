"""Read one meter now, before the sweep of its bus: the reading goes the way of all readings."""

from __future__ import annotations

from gateway.meter_poll import MeterPoll, StepMaker
from gateway.poller import Poller
from metering.errors import ConnectError, MetergateError
from metering.reading import Reading


async def read_now(poller: Poller, meter: str) -> Reading:
    """Return the reading; the outbox has taken it. Raises: MetergateError, also when the meter is unknown."""
    found = poller.find(meter)
    if found is None:
        raise ConnectError("no such meter is polled by this gateway", meter=meter)
    bus, scheduled = found
    poll = MeterPoll(scheduled.meter, StepMaker(), phase=poller.clock.monotonic(), before=scheduled)
    poll.begin(poller.clock.monotonic())
    failed: MetergateError | None = None
    goes_on = True
    while goes_on:
        try:
            data = await bus.demand(poll.step.ask, scheduled.meter.timeout_s)
            goes_on = poll.answered(data, poller.clock.now_ms())
        except MetergateError as error:
            failed = error
            goes_on = poll.refused(error)
    if not poll.has_index:
        raise failed or ConnectError(poll.index_fault()[1])
    reading = poll.reading()
    if not poller.take(reading):
        raise ConnectError("read, but the outbox has no room for it")
    poller.soon(bus, scheduled)
    return reading
