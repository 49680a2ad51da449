"""What can happen in a scenario: the kinds of events, where each may happen, and what a line must be for it.

The model only; what becomes of an event stands in `simulators.scenario_fleet` (what customers use and counters show)
and `metergate.virtual_script` (lines, links, parts of the house).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from metering.settings import SettingsModel

UseKind = Literal[
    "leak", "leak_intermittent", "zero_use", "stuck", "reverse_flow", "backflow", "unauthorised", "tamper", "drift",
    "high_use",
]  # fmt: skip
IndexKind = Literal["unit_error", "rollover", "spike", "exchange", "wrong_decode"]
LineKind = Literal[
    "silent", "late", "cut", "garbage", "exception", "bad_content", "not_available", "flip", "noise", "wrong_address",
    "address_clash", "duplicate",
]  # fmt: skip
FlagKind = Literal["low_battery", "valve_closed", "magnet", "cover"]
ClockKind = Literal["clock_drift"]
BusKind = Literal["bus_silent", "echo"]
LinkKind = Literal["link_cut", "link_delay", "half_open"]
"""On the way to the meters of a bus, or on a gateway's way to the broker."""
GatewayKind = Literal["gateway_off", "gateway_kill", "disk_full"]
ServerKind = Literal["broker_off", "store_off", "ingest_off", "ingest_kill", "anomaly_off", "anomaly_kill"]
EventKind = Literal[
    UseKind, IndexKind, LineKind, FlagKind, ClockKind, BusKind, LinkKind, GatewayKind, ServerKind
]  # fmt: skip

USE_KINDS: Final[frozenset[str]] = frozenset(UseKind.__args__)  # type: ignore[attr-defined]  # a Literal has them
INDEX_KINDS: Final[frozenset[str]] = frozenset(IndexKind.__args__)  # type: ignore[attr-defined]  # as above
LINE_KINDS: Final[frozenset[str]] = frozenset(LineKind.__args__)  # type: ignore[attr-defined]  # as above
FLAG_KINDS: Final[frozenset[str]] = frozenset(FlagKind.__args__)  # type: ignore[attr-defined]  # as above
CLOCK_KINDS: Final[frozenset[str]] = frozenset({"clock_drift"})
BUS_KINDS: Final[frozenset[str]] = frozenset(BusKind.__args__)  # type: ignore[attr-defined]  # as above
LINK_KINDS: Final[frozenset[str]] = frozenset(LinkKind.__args__)  # type: ignore[attr-defined]  # as above
GATEWAY_KINDS: Final[frozenset[str]] = frozenset(GatewayKind.__args__)  # type: ignore[attr-defined]  # as above
SERVER_KINDS: Final[frozenset[str]] = frozenset(ServerKind.__args__)  # type: ignore[attr-defined]  # as above
HOUSE_KINDS: Final = GATEWAY_KINDS | SERVER_KINDS
METER_KINDS: Final = USE_KINDS | INDEX_KINDS | LINE_KINDS | FLAG_KINDS | CLOCK_KINDS

MOMENTS: Final = frozenset({"rollover", "spike", "exchange"})
"""Over at once: what comes later at the same meter does not contradict them."""
KILLS: Final = frozenset({"gateway_kill", "ingest_kill", "anomaly_kill"})
"""A part dies in mid-work, as by kill -9, and is started again, after a minute unless `for_days` says otherwise."""
KILL_MS: Final = 60_000
MOMENT_MS: Final = 3_600_000

ProtocolWord = Literal["modbus-tcp", "modbus-rtu", "cjt188", "dlt645", "mqtt"]
SERIAL: Final = frozenset({"modbus-rtu", "cjt188", "dlt645"})
_TCP: Final = frozenset({"modbus-tcp"})
_PUSHED: Final = frozenset({"mqtt"})
WIRES_OF: Final[dict[str, frozenset[str]]] = {
    "late": _TCP | SERIAL,
    "cut": _TCP | SERIAL,
    "garbage": _TCP,
    "exception": _TCP,
    "bad_content": _TCP,
    "not_available": _TCP,
    "flip": SERIAL,
    "noise": SERIAL,
    "wrong_address": SERIAL,
    "address_clash": SERIAL,
    "duplicate": _PUSHED,
    "low_battery": _TCP | {"modbus-rtu", "cjt188"},
    "valve_closed": _TCP | {"modbus-rtu", "cjt188"},
    "magnet": _TCP | {"modbus-rtu"},
    "cover": _TCP | {"modbus-rtu"},
    "clock_drift": frozenset({"cjt188", "dlt645", "mqtt"}),
    "echo": SERIAL,
    "link_cut": _TCP | SERIAL,
    "link_delay": _TCP | SERIAL,
    "half_open": _TCP,
}
"""Which wires can show an event; those that are not named here show on all of them."""


class Event(SettingsModel):
    """Something that happens. At meters: `meters` by name, or `count` of `group`, drawn from the seed.

    day: [d] after the start, with fractions. for_days: how long; to the end when absent. rate: [house units per hour]
    of leaks. factor: of tampering, of high use, of wrong units. per_month: [house units in 30 d] that high use adds
    instead of a factor. percent: of drift. seconds: of late answers and delays. share: of the answers that a fault of
    the line hits. code: of exceptions. clock_s: [s a day] by which a meter's clock goes wrong, negative is slow.
    start_index: [house units] of the new meter in an exchange. in_books: whether the exchange is recorded. bus,
    gateway: where it happens.
    """

    kind: EventKind
    day: Annotated[float, Field(ge=0, le=3660)]
    for_days: Annotated[float, Field(gt=0, le=3660)] | None = None
    meters: tuple[str, ...] = ()
    group: str = ""
    count: Annotated[int, Field(ge=1)] | None = None
    bus: str = ""
    gateway: str = ""
    rate: Annotated[float, Field(gt=0, le=10_000)] = 0.03
    factor: Annotated[float, Field(gt=0, le=1000)] | None = None
    per_month: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    percent: Annotated[float, Field(ge=-90, le=500)] = -15.0
    seconds: Annotated[float, Field(gt=0, le=3600)] = 2.5
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    code: Annotated[int, Field(ge=1, le=255)] = 4
    clock_s: Annotated[float, Field(ge=-3600, le=3600)] = 60.0
    start_index: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    in_books: bool = True
    severity: str = ""
    note: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        """The words of which exactly one says where it happens; none for what has only one place."""
        if self.kind in METER_KINDS:
            return ("meters", "group")
        if self.kind in LINK_KINDS:
            return ("bus", "gateway")
        return ("bus",) if self.kind in BUS_KINDS else ("gateway",) if self.kind in GATEWAY_KINDS else ()

    @model_validator(mode="after")
    def _says_where(self) -> Event:
        where = {"meters": bool(self.meters), "group": bool(self.group), "bus": bool(self.bus),
                 "gateway": bool(self.gateway)}  # fmt: skip
        named = [name for name, given in where.items() if given]
        allowed = self.places
        if len(named) != bool(allowed) or not set(named) <= set(allowed):
            rule = f"exactly one of {', '.join(allowed)}" if allowed else "no meters, group, bus or gateway"
            raise ValueError(f"{self.kind} takes {rule}, not {', '.join(named) or 'none'}")
        if self.count is not None and not self.group:
            raise ValueError("count says how many meters of a group: name the group")
        return self
