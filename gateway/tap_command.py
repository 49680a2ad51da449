"""The command `tap`: raw frames for a while, on order of the office. It ends by itself."""

from __future__ import annotations

from typing import Annotated

import msgspec

from gateway.commands import Outcome
from gateway.tap import LONGEST_S, Destination, Tap, TapOrder
from metering.clock import Clock
from metering.errors import MessageError, SettingsError
from metering.messages import Command

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class TapArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Args of tap. seconds: how long from now on, 0 ends what is being recorded. buses, meters: all when empty."""

    seconds: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_S)]
    buses: Annotated[list[_Name], msgspec.Meta(max_length=100)] = []
    meters: Annotated[list[_Name], msgspec.Meta(max_length=500)] = []
    topics: bool = True
    to: Destination = "file"


class TapAction:
    """Carries the command out. Raises: MessageError when its args cannot be understood."""

    def __init__(self, tap: Tap, clock: Clock) -> None:
        self._tap = tap
        self._clock = clock

    async def __call__(self, command: Command) -> Outcome:
        """Begin or end a recording; a bus or meter that is not in the plan begins none."""
        try:
            args = msgspec.convert(command.args, TapArgs)
        except msgspec.ValidationError as error:
            raise MessageError(f"args of {command.name}: {error}") from error
        if not args.seconds:
            was_on = self._tap.order is not None
            self._tap.stop()
            return Outcome((), "done", "the recording is ended" if was_on else "nothing was being recorded")
        until = self._clock.now_ms() + 1000 * args.seconds
        try:
            said = self._tap.start(TapOrder(until, tuple(args.buses), tuple(args.meters), args.topics, args.to))
        except SettingsError as error:
            return Outcome((), "failed", error.message)
        return Outcome((), "done", said)
