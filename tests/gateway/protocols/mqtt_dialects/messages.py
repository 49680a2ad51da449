"""Golden messages, and ways to change one."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from tests.gateway.protocols import wire_checks

UGM_ROW: Final = bytes.fromhex("ff1e6955b900011e6955b900280012d6872900232a671f05f51500")
"""Golden lo-01: 1234.567 m³ at 1767225600 s = 2026-01-01T00:00:00Z."""
UGM_MS: Final = 1_767_225_600_000


def golden(id: str) -> tuple[str, bytes]:
    """Return topic and payload of a golden message."""
    (entry,) = [e for e in wire_checks.entries("mqtt-" + _PROTOCOLS[id]) if e["id"] == id]
    return entry["topic"], bytes.fromhex(entry["hex"])


_PROTOCOLS: Final = {
    "mq-01": "chirpstack-v4",
    "mq-05": "chirpstack-v4",
    "mq-02": "ttn-v3",
    "mq-03": "wmbusmeters",
    "mq-04": "huawei-iotda",
}


def changed(payload: bytes, path: str, value: Any) -> bytes:
    """Return the message with another value at a path; `...` removes it."""
    said = json.loads(payload)
    *way, last = path.split(".")
    place = said
    for step in way:
        place = place[int(step)] if step.isdecimal() else place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(said, ensure_ascii=False).encode()


def base64_text(data: bytes) -> str:
    """Return base64."""
    return base64.b64encode(data).decode()
