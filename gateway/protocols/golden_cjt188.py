"""CJ/T 188 in the vocabulary of golden files, and our readings beside it (see `golden`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from gateway.protocols import cjt188, framing
from gateway.protocols.cjt188 import STANDARD_STATUS, Amount, Message
from gateway.protocols.cjt188.status import VALVE_CODES
from metering.quantities import from_micro

_COOLING_AND_HEAT = 0x25


def adapt(_protocol: str, raw: bytes, _entry: Mapping[str, Any]) -> dict[str, Any]:
    """Decode one frame. Raises: ProtocolError."""
    message = cjt188.parse(cjt188.decode(raw))
    said: dict[str, Any] = {
        "meter_type": f"{message.meter_type:02X}",
        "address": message.address,
        "control": f"{message.control:02X}",
        "broadcast": message.address == cjt188.WILDCARD,
    }
    if message.di is not None:
        said |= {"di": f"{message.di:04X}", "di_order": message.order}
    if message.ser is not None:
        said["ser"] = message.ser
    return said | _describe(message.body, message)


def split(_protocol: str, raw: bytes) -> list[bytes]:
    """Return the frames in a recording, and the damaged stretches between them."""
    return [item.raw for item in framing.split(cjt188.splitter(), raw)]


@singledispatch
def _describe(_body: object, _message: Message) -> dict[str, Any]:
    """Return what a body says, by key."""
    raise AssertionError("every body has a description")  # a new body without one is found by the tests


@_describe.register
def _(body: cjt188.Plain, _message: Message) -> dict[str, Any]:
    return {"data": body.raw.hex()} if body.raw else {}


@_describe.register
def _(body: cjt188.Refusal, _message: Message) -> dict[str, Any]:
    return {"status": body.status.hex().upper(), "refused": True}


@_describe.register
def _(body: cjt188.Volumes, _message: Message) -> dict[str, Any]:
    readings = _reading("volume", body.current.micro("volume")) | _valve_reading(body.status)
    return {
        "current_volume": body.current.value,
        "settlement_volume": body.settlement.value,
        "unit": body.current.unit,
        "time": body.clock.text,
        "readings": readings,
        **_status(body.status),
        **({"extra": body.extra.hex()} if body.extra else {}),
    }


@_describe.register
def _(body: cjt188.Heat, message: Message) -> dict[str, Any]:
    said = {
        "energy_1": body.energy_1.value,
        "energy_2": body.energy_2.value,
        "energy_unit": body.energy_2.unit,
        "power": body.power.value,
        "power_unit": body.power.unit,
        "flow_rate": body.flow.value,
        "flow_unit": body.flow.unit,
        "volume": body.volume.value,
        "volume_unit": body.volume.unit,
        "supply_temp": body.supply.value,
        "return_temp": body.back.value,
        "hours": body.hours.number,
        "time": body.clock.text,
        "readings": _heat_readings(body),
    }
    if message.meter_type == _COOLING_AND_HEAT:
        said |= {"energy_cooling": body.energy_1.value, "energy_heat": body.energy_2.value}
    return said | _status(body.status) | ({"extra": body.extra.hex()} if body.extra else {})


@_describe.register
def _(body: cjt188.Settlement, _message: Message) -> dict[str, Any]:
    return {"settlement_volume": body.value.value, "unit": body.value.unit, "months_back": body.months_back}


@_describe.register
def _(body: cjt188.Initial, _message: Message) -> dict[str, Any]:
    return {"current_volume": body.value.value, "unit": body.value.unit}


@_describe.register
def _(body: cjt188.Freeze, _message: Message) -> dict[str, Any]:
    return {
        "time": body.clock.text,
        "current_volume": body.volume.value,
        "unit": body.volume.unit,
        "flow_rate": body.flow.value,
        "flow_unit": body.flow.unit,
        "temperature": body.temperature.value,
        "pressure_raw": body.pressure.number,
    }


@_describe.register
def _(body: cjt188.SetTime, _message: Message) -> dict[str, Any]:
    return {"time": body.clock.text}


@_describe.register
def _(body: cjt188.Valve, _message: Message) -> dict[str, Any]:
    return {"valve_command": body.word}


@_describe.register
def _(body: cjt188.ValveAnswer, _message: Message) -> dict[str, Any]:
    return _status(body.status)  # no reading: the valve may still move, only reading ST later proves it


@_describe.register
def _(body: cjt188.NewAddress, _message: Message) -> dict[str, Any]:
    return {"new_address": body.address}


def _status(status: bytes) -> dict[str, Any]:
    return {
        "status": status.hex().upper(),
        "valve": STANDARD_STATUS.valve(status),
        "battery_low": STANDARD_STATUS.battery_low(status),
    }


def _heat_readings(body: cjt188.Heat) -> dict[str, str]:
    return {
        **_reading("energy_import", body.energy_2.micro("energy")),
        **_reading("power", body.power.micro("power")),
        **_reading("flow", body.flow.micro("flow")),
        **_reading("volume", body.volume.micro("volume")),
        **_reading("temperature", _temperature_micro(body.supply)),
        **_reading("temperature_2", _temperature_micro(body.back)),
    }


def _temperature_micro(amount: Amount) -> int | None:
    number = amount.number
    return None if number is None else int(number * 10 ** (6 - amount.decimals))


def _valve_reading(status: bytes) -> dict[str, str]:
    code = VALVE_CODES.get(STANDARD_STATUS.valve(status))
    return {} if code is None else {"valve": str(code)}


def _reading(quantity: str, micro: int | None) -> dict[str, str]:
    return {} if micro is None else {quantity: from_micro(micro)}
