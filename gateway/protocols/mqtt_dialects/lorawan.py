"""What ChirpStack and The Things Stack have in common: an uplink of a LoRaWAN device, and the layouts inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from gateway.protocols import lorawan_ugm
from gateway.protocols.mqtt_dialects.generic import read_samples
from gateway.protocols.mqtt_dialects.messages import Counter, Message, Notice, Readings, Sample
from gateway.protocols.mqtt_dialects.profile import JsonProfile
from metering.errors import FrameError

_F_CNT_MODULUS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Uplink:
    """One message of a device. time: as sent; time_ms: [ms UTC]. f_port None: not told. decoded: the platform's.

    dedup: names the message wherever it is delivered again, "" when the platform gives none.
    """

    device: str
    dev_eui: str
    f_port: int | None
    f_cnt: int
    payload: bytes
    decoded: Any
    time: str
    time_ms: int
    dedup: str = ""
    rssi: int | Decimal | None = None
    snr: int | Decimal | None = None
    server_time: str = ""


def _ugm(uplink: Uplink) -> tuple[Sample, ...]:
    if uplink.f_port is None or uplink.f_port not in lorawan_ugm.DATA_PORTS:
        return ()
    message = lorawan_ugm.decode(uplink.payload, uplink.f_port)
    return tuple(
        Sample(row.house_values(), row.time_s * 1000, historical=row.time_s < message.time_s)
        for row in message.measurements
    )


CODECS: Final[dict[str, Callable[[Uplink], tuple[Sample, ...]]]] = {"lorawan-ugm": _ugm}
"""Layouts of binary payloads by name."""


def to_message(uplink: Uplink, profile: JsonProfile) -> Message:
    """Read an uplink by the profile's codec, or its decoded object by the profile's fields.

    Raises: FrameError, also sort "codec" for a codec that is not known.
    """
    if profile.codec:
        if profile.codec not in CODECS:
            raise FrameError(f"codec {profile.codec!r}; known are {', '.join(CODECS)}", sort="codec")
        samples = CODECS[profile.codec](uplink)
    else:
        samples = read_samples(uplink.decoded, profile, uplink.time_ms)
    if not samples:
        return Notice(uplink.device, "up", f"no value on port {uplink.f_port}", {"f_cnt": uplink.f_cnt})
    return Readings(uplink.device, samples, Counter(uplink.f_cnt, _F_CNT_MODULUS), uplink.dedup)
