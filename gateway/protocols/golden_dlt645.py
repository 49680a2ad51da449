"""DL/T 645 in the vocabulary of golden files, and our readings beside it (see `golden`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.protocols import dlt645, framing
from gateway.protocols.dlt645 import Edition, Message
from metering.quantities import from_micro


def adapt(protocol: str, raw: bytes, _entry: Mapping[str, Any]) -> dict[str, Any]:
    """Decode one frame. Raises: ProtocolError."""
    edition: Edition = "1997" if protocol.endswith("1997") else "2007"
    frame = dlt645.decode(raw)
    message = dlt645.parse(frame, edition)
    said: dict[str, Any] = {
        "address": message.address,
        "control": f"{message.control:02X}",
        "broadcast": frame.broadcast,
        "more": frame.more,
    }
    if message.di is not None:
        said["di"] = f"{message.di:08X}" if edition == "2007" else f"{message.di:04X}"
    if message.sequence is not None:
        said["sequence"] = message.sequence
    return said | _describe(message)


def split(_protocol: str, raw: bytes) -> list[bytes]:
    """Return the frames in a recording, and the damaged stretches between them."""
    return [item.raw for item in framing.split(dlt645.splitter(), raw)]


def _describe(message: Message) -> dict[str, Any]:
    match message.body:
        case dlt645.Values() as values:
            return _values(message, values)
        case dlt645.Write(password, operator, values):
            return _authorised(password, operator) | _describe_written(message, values)
        case dlt645.Switch() as switch:
            return _authorised(switch.password, switch.operator) | {
                "command": f"{switch.command:02X}",
                "command_name": switch.word,
                "deadline": switch.deadline_text,
            }
        case dlt645.BroadcastTime() as time:
            return {"time": time.text}
        case dlt645.Address(address):
            return {"new_address": address}
        case dlt645.Refusal() as refusal:
            return {"error_word": refusal.word[::-1].hex().upper(), "reasons": refusal.reasons}
        case dlt645.Plain(raw):
            return {"data": raw.hex()} if raw else {}


def _describe_written(message: Message, values: dlt645.Values | dlt645.Plain) -> dict[str, Any]:
    if isinstance(values, dlt645.Plain):
        return {"data": values.raw.hex()} if values.raw else {}
    return {key: value for key, value in _values(message, values).items() if key != "readings"}


def _authorised(password: bytes, operator: bytes) -> dict[str, Any]:
    """Both in the order of the wire: PA P0 P1 P2 and C0..C3."""
    return {"password": password.hex().upper(), "operator": operator.hex().upper()}


def _values(message: Message, values: dlt645.Values) -> dict[str, Any]:
    form = values.items[0].form
    found = [item.value for item in values.items]
    said: dict[str, Any] = {"value": found if form.block else found[0]}
    if form.kind in ("number", "demand"):
        said["unit"] = form.unit or None
    if form.kind == "demand":
        times = [item.at for item in values.items]
        said["time"] = times if form.block else times[0]
    if form.kind in ("date", "clock", "minute", "stamp"):
        said["time"] = found[0]
    if form.kind == "status":
        said |= _status_words(message, values)
    if values.extra:
        said["extra"] = values.extra.hex().upper()
    return said | _readings(message, values)


def _status_words(message: Message, values: dlt645.Values) -> dict[str, Any]:
    words = [item.value for item in values.items]
    if message.di == dlt645.RELAY_WORD:
        relay = int(str(words[0]), 16) & dlt645.RELAY_BIT
        return {"status_word": words[0], "relay": "open" if relay else "closed"}
    return {"status_word": words if values.items[0].form.block else words[0]}


def _readings(message: Message, values: dlt645.Values) -> dict[str, Any]:
    """Our words for the answer; an electricity meter's relay 断开 is a closed valve."""
    item = values.items[0]
    if message.di == dlt645.RELAY_WORD:
        return {"readings": {"valve": "1" if item.raw[0] & dlt645.RELAY_BIT else "0"}}
    quantity = dlt645.QUANTITIES.get(message.di or 0)
    if quantity is None or item.form.block or item.micro is None:
        return {"readings": {}}
    return {"readings": {quantity: from_micro(item.micro)}}
