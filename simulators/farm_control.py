"""The control line of a farm: one JSON object per line over a loopback port, one JSON object back.

{"meter": "G-0001", "fault": {"kind": "late", "seconds": 3}}     switch a fault on
{"meter": "G-0001", "fault": null}                               and off
{"meter": "*", "flow": {"kind": "leak", "rate": 0.5}}            every meter
{"meter": "G-0001", "index": "0"}                                an index that jumps
{"list": true}                                                   what was changed and is in force, by number
{"undo": "last"}                                                 take it back; a number, or "all"
{"stats": true}                                                  connections, meters with a fault or a flow
{"flush": true}                                                  the answer log is in its file when this answers
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from metering.clock import Clock
from metering.quantities import to_micro
from metering.settings import SettingsModel
from simulators.farm_settings import FaultSettings, FlagName, FlowSettings
from simulators.injections import Injections, undo_of
from simulators.simulated_meter import SimulatedMeter


class Order(SettingsModel):
    """One line. What is not named stays as it is; null ends it."""

    meter: str = ""
    fault: FaultSettings | None = None
    flow: FlowSettings | None = None
    flags: tuple[FlagName, ...] | None = None
    index: Annotated[str, Field(max_length=30)] | None = None
    list: bool = False
    undo: Annotated[int, Field(ge=1)] | Literal["last", "all"] | None = None
    stats: bool = False
    flush: bool = False


class FarmControl:
    """Obeys lines. stats and flush are the farm's own."""

    def __init__(
        self,
        meters: Mapping[str, SimulatedMeter],
        clock: Clock,
        *,
        stats: Callable[[], dict[str, Any]],
        flush: Callable[[], None],
    ) -> None:
        self._meters = meters
        self._clock = clock
        self.injections = Injections()
        self._stats = stats
        self._flush = flush

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until it leaves (asyncio's client_connected_cb)."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.obey(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):  # a line without end, or a client that left
            pass
        finally:
            writer.close()

    def obey(self, line: bytes) -> dict[str, Any]:
        """Do what one line says; the answer has `ok`, and `error` in words when it is false."""
        try:
            order = Order.model_validate_json(line)
            changed = self._change(order) if order.meter else 0
            undone = self.injections.undo(order.undo, self._clock.now_ms()) if order.undo is not None else None
        except ValidationError as error:
            faults = error.errors()
            return {"ok": False, "error": "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in faults)}
        except ValueError as error:
            return {"ok": False, "error": str(error)}
        if order.flush:
            self._flush()
        if order.list:
            return {"ok": True, "in_force": self.injections.listed()}
        if undone is not None:
            return {"ok": True, "undone": undone}
        if order.stats:
            return {"ok": True, **self._stats()}
        if not changed and not order.flush:
            return {"ok": False, "error": 'an order names a meter (or "*"), list, undo, stats or flush'}
        return {"ok": True, "meters": changed}

    def _change(self, order: Order) -> int:
        """Apply an order to its meters, all of it or nothing; return how many there were."""
        meters = list(self._meters.values()) if order.meter == "*" else [self._meters.get(order.meter)]
        named = order.model_fields_set
        index = None if order.index is None else to_micro(order.index)
        now_ms = self._clock.now_ms()
        found = [meter for meter in meters if meter is not None]
        if len(found) < len(meters):
            raise ValueError(f"there is no meter {order.meter!r}")
        undo = undo_of(found, named & {"fault", "flow", "flags"}, index, self._clock)
        for meter in found:
            if "fault" in named:
                meter.set_fault(order.fault)
            if "flow" in named:
                meter.set_flow(order.flow, now_ms)
            if "flags" in named:
                meter.set_flags(order.flags or ())
            if index is not None:
                meter.set_index(index, now_ms)
        if touched := named & {"fault", "flow", "flags", "index"}:
            plain = order.model_dump(mode="json", include={"meter", *touched})
            names = [meter.settings.meter for meter in found]
            self.injections.add(now_ms, plain, [(name, what) for name in names for what in touched], undo)
        return len(meters)
