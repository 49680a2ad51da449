"""Changes of a running simulation are numbered, listed and taken back; the same for both farms and one client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from metering.clock import ManualClock, SystemClock
from metering.errors import ConnectError
from simulators.bus_farm import BusFarm
from simulators.control_client import order
from simulators.farm_settings import FarmSettings
from simulators.injections import Injections
from simulators.modbus_farm import Farm
from tests.brokers import free_port
from tests.gateway.drivers.buses import PROFILES, farm_of

MICRO = 1_000_000


def _farm(clock: ManualClock | None = None, **settings: Any) -> Farm:
    meter = {"meter": "G-1", "profile": "fuxin-corrector", "unit": 1, "curve": "rest", "start_index": 5 * MICRO}
    made = FarmSettings.model_validate({"port": [{"port": 0, "meter": [meter]}], **settings}, strict=False)
    return Farm(made, clock or ManualClock(), profiles=PROFILES)


def _obey(farm: Farm, **wanted: Any) -> dict[str, Any]:
    return farm.control.obey(json.dumps(wanted).encode())


def test_what_was_changed_is_listed_and_undone_one_by_one() -> None:
    farm = _farm()
    meter = farm.meters["G-1"]
    assert _obey(farm, meter="G-1", fault={"kind": "silent"})["ok"]
    assert _obey(farm, meter="*", index="100")["ok"]
    listed = _obey(farm, list=True)["in_force"]
    assert [(line["number"], line["meter"]) for line in listed] == [(1, "G-1"), (2, "*")]
    assert listed[0]["fault"]["kind"] == "silent"
    assert meter.index_at(ManualClock().now_ms()) == 100 * MICRO
    assert _obey(farm, undo="last") == {"ok": True, "undone": [2]}
    assert meter.index_at(ManualClock().now_ms()) == 5 * MICRO
    assert meter.is_sick
    assert _obey(farm, undo=1) == {"ok": True, "undone": [1]}
    assert not meter.is_sick
    assert _obey(farm, list=True)["in_force"] == []
    assert _obey(farm, undo="last")["error"] == "nothing is in force that could be undone"


def test_an_undone_fault_gives_way_to_the_one_before_it() -> None:
    farm = _farm()
    _obey(farm, meter="G-1", fault={"kind": "late", "seconds": 1})
    _obey(farm, meter="G-1", fault={"kind": "silent"})
    assert _obey(farm, undo=1)["error"] == "number 2 came later and changed the same: undo that first"
    assert _obey(farm, undo="last")["ok"]
    assert farm.meters["G-1"].is_sick
    assert _obey(farm, undo="all") == {"ok": True, "undone": [1]}
    assert not farm.meters["G-1"].is_sick


def test_what_leaked_stays_counted_when_the_leak_is_undone() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        farm = _farm(clock)
        meter = farm.meters["G-1"]
        _obey(farm, meter="G-1", flow={"kind": "leak", "rate": 2})
        await clock.advance(3600)
        _obey(farm, undo="last")
        await clock.advance(3600)
        assert meter.index_at(clock.now_ms()) == (5 + 2) * MICRO  # an hour at 2 per hour, and then none

    asyncio.run(scenario())


def test_a_refused_order_is_no_change() -> None:
    farm = _farm()
    assert not _obey(farm, meter="G-1", index="much")["ok"]
    assert not _obey(farm, meter="nobody", fault=None)["ok"]
    assert _obey(farm, list=True)["in_force"] == []
    assert _obey(farm, undo=9)["error"] == "nothing is in force that could be undone"


def _bus_farm() -> BusFarm:
    meter = {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001"}
    farm = farm_of(SystemClock(), {"name": "b", "kind": "tcp", "meter": [meter]})
    farm.settings = farm.settings.model_copy(update={"control_port": 0})
    return farm


def test_a_bus_that_was_unplugged_is_plugged_in_by_undo_over_the_control_line() -> None:
    async def scenario() -> None:
        farm, clock = _bus_farm(), SystemClock()
        await farm.start()
        try:
            port = farm.control_port
            assert port is not None
            assert (await order(port, {"bus": "b", "plug": False}, clock=clock))["ok"]
            assert (await order(port, {"meter": "W-1", "fault": {"kind": "cut"}}, clock=clock))["ok"]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", int(farm.path("b").split(":")[1]))
            listed = (await order(port, {"list": True}, clock=clock))["in_force"]
            assert [line.get("plug", line.get("meter")) for line in listed] == [False, "W-1"]
            assert (await order(port, {"undo": "all"}, clock=clock))["undone"] == [2, 1]
            assert not farm.meters["W-1"].is_sick
            _, writer = await asyncio.open_connection("127.0.0.1", int(farm.path("b").split(":")[1]))
            writer.close()
            refused = await order(port, {"bus": "c", "plug": True}, clock=clock)
            assert refused == {"ok": False, "error": "there is no bus 'c'"}
        finally:
            await farm.close()

    asyncio.run(scenario())


def test_where_nobody_takes_orders_it_is_said() -> None:
    with pytest.raises(ConnectError, match="no simulation takes orders there"):
        asyncio.run(order(free_port(), {"list": True}, clock=SystemClock()))


def test_numbers_go_on_after_an_undo() -> None:
    injections = Injections()
    assert injections.add(0, {}, [], lambda: None) == 1
    injections.undo("last")
    assert injections.add(0, {}, [], lambda: None) == 2
