"""The control line of a farm of buses: one JSON object per line over a loopback port, one JSON object back.

{"meter": "W-0001", "fault": {"kind": "late", "seconds": 3}}     switch a fault on; null ends it; "*" is every meter
{"meter": "W-0001", "index": "12.5"}                             an index that jumps
{"bus": "stair-3", "plug": false}                                pull the adapter out; true puts it back
{"stats": true}                                                  what each bus measured
{"flush": true}                                                  the answer log is in its file when this answers
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from metering.clock import Clock
from metering.quantities import to_micro
from metering.settings import SettingsModel
from simulators.bus_meter import BusMeter
from simulators.bus_ports import PtyPort, TcpServerPort
from simulators.bus_settings import BusFaultSettings


class BusOrder(SettingsModel):
    """One line. What is not named stays as it is; null ends it."""

    meter: str = ""
    fault: BusFaultSettings | None = None
    index: Annotated[str, Field(max_length=30)] | None = None
    bus: str = ""
    plug: bool | None = None
    stats: bool = False
    flush: bool = False


class BusControl:
    """Obeys lines. stats and flush are the farm's own."""

    def __init__(
        self,
        meters: Mapping[str, BusMeter],
        ports: Mapping[str, PtyPort | TcpServerPort],
        clock: Clock,
        *,
        stats: Callable[[], dict[str, Any]],
        flush: Callable[[], None],
    ) -> None:
        self._meters = meters
        self._ports = ports
        self._clock = clock
        self._stats = stats
        self._flush = flush

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until it leaves (asyncio's client_connected_cb)."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self.obey(line)).encode() + b"\n")
                await writer.drain()
        except (ValueError, ConnectionError):  # a line without end, or a client that left
            pass
        finally:
            writer.close()

    async def obey(self, line: bytes) -> dict[str, Any]:
        """Do what one line says; the answer has `ok`, and `error` in words when it is false."""
        try:
            order = BusOrder.model_validate_json(line)
            changed = self._change(order) if order.meter else 0
            if order.bus:
                await self._plug(order)
        except ValidationError as error:
            faults = error.errors()
            return {"ok": False, "error": "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in faults)}
        except ValueError as error:
            return {"ok": False, "error": str(error)}
        if order.flush:
            self._flush()
        return {"ok": True, "meters": changed, **(self._stats() if order.stats else {})}

    async def _plug(self, order: BusOrder) -> None:
        if order.bus not in self._ports:
            raise ValueError(f"there is no bus {order.bus!r}")
        self._ports[order.bus].close()
        if order.plug:
            await self._ports[order.bus].open()

    def _change(self, order: BusOrder) -> int:
        """Apply an order to its meters, all of it or nothing; return how many there were."""
        meters = list(self._meters.values()) if order.meter == "*" else [self._meters.get(order.meter)]
        index = None if order.index is None else to_micro(order.index)
        for meter in meters:
            if meter is None:
                raise ValueError(f"there is no meter {order.meter!r}")
            if "fault" in order.model_fields_set:
                meter.set_fault(order.fault)
            if index is not None:
                meter.set_index(index, self._clock.now_ms())
        return len(meters)
