"""The control line of a farm of buses: one JSON object per line over a loopback port, one JSON object back.

{"meter": "W-0001", "fault": {"kind": "late", "seconds": 3}}     switch a fault on; null ends it; "*" is every meter
{"meter": "W-0001", "index": "12.5"}                             an index that jumps
{"bus": "stair-3", "plug": false}                                pull the adapter out; true puts it back
{"list": true}                                                   what was changed and is in force, by number
{"undo": "last"}                                                 take it back; a number, or "all"
{"stats": true}                                                  what each bus measured
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
from simulators.bus_meter import BusMeter
from simulators.bus_ports import PtyPort, TcpServerPort
from simulators.bus_settings import BusFaultSettings
from simulators.injections import Injections, undo_of


class BusOrder(SettingsModel):
    """One line. What is not named stays as it is; null ends it."""

    meter: str = ""
    fault: BusFaultSettings | None = None
    index: Annotated[str, Field(max_length=30)] | None = None
    bus: str = ""
    plug: bool | None = None
    list: bool = False
    undo: Annotated[int, Field(ge=1)] | Literal["last", "all"] | None = None
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
        self.injections = Injections()
        self._out: set[str] = set()
        self._reopen: list[str] = []
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
            undone = self.injections.undo(order.undo, self._clock.now_ms()) if order.undo is not None else None
            await self._open_again()
        except ValidationError as error:
            faults = error.errors()
            return {"ok": False, "error": "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in faults)}
        except ValueError as error:
            return {"ok": False, "error": str(error)}
        if order.flush:
            self._flush()
        said: dict[str, Any] = {"in_force": self.injections.listed()} if order.list else {}
        if undone is not None:
            said["undone"] = undone
        return {"ok": True, "meters": changed, **said, **(self._stats() if order.stats else {})}

    async def _plug(self, order: BusOrder) -> None:
        if order.bus not in self._ports:
            raise ValueError(f"there is no bus {order.bus!r}")
        if order.plug is None:
            raise ValueError(f"bus {order.bus!r}: say plug true or false")
        bus, was_out = order.bus, order.bus in self._out
        self._ports[bus].close()
        self._out.discard(bus)
        if order.plug:
            await self._ports[bus].open()
        else:
            self._out.add(bus)
        if was_out == order.plug:
            plain = order.model_dump(mode="json", include={"bus", "plug"})
            self.injections.add(self._clock.now_ms(), plain, [(bus, "plug")], lambda: self._replug(bus, was_out))

    def _replug(self, bus: str, out: bool) -> None:
        self._ports[bus].close()
        if out:
            self._out.add(bus)
        else:
            self._reopen.append(bus)

    async def _open_again(self) -> None:
        """Plug in what was undone: opening a port has to be awaited."""
        while self._reopen:
            bus = self._reopen.pop()
            self._out.discard(bus)
            await self._ports[bus].open()

    def _change(self, order: BusOrder) -> int:
        """Apply an order to its meters, all of it or nothing; return how many there were."""
        meters = list(self._meters.values()) if order.meter == "*" else [self._meters.get(order.meter)]
        index = None if order.index is None else to_micro(order.index)
        found = [meter for meter in meters if meter is not None]
        if len(found) < len(meters):
            raise ValueError(f"there is no meter {order.meter!r}")
        touched = order.model_fields_set & {"fault", "index"}
        undo = undo_of(found, touched & {"fault"}, index, self._clock)
        for meter in found:
            if "fault" in order.model_fields_set:
                meter.set_fault(order.fault)
            if index is not None:
                meter.set_index(index, self._clock.now_ms())
        if touched:
            plain = order.model_dump(mode="json", include={"meter", *touched})
            names = [meter.settings.meter for meter in found]
            marks = [(name, what) for name in names for what in touched]
            self.injections.add(self._clock.now_ms(), plain, marks, undo)
        return len(meters)
