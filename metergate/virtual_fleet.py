"""The meters of a virtual house on all their wires: Modbus TCP, serial buses, and meters that send by MQTT.

They are the simulators of the bench, with the curves of the scenario and one answer log. What the script does to a
meter or its line is said in the words of the scenario; here it becomes what the simulator of that wire can do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.profile import Profile
from gateway.profile_mqtt import load_mqtt_profiles
from metergate.virtual_wires import Wires
from metering.broker_settings import BrokerSettings
from metering.clock import Clock
from metering.quantities import Quantity
from simulators.answer_log import AnswerLog
from simulators.bus_farm import BusFarm
from simulators.bus_ports import PtyPort
from simulators.bus_settings import BusFarmSettings, BusFaultSettings, BusMeterSettings, SimulatedBusSettings
from simulators.farm_settings import FarmSettings, FaultSettings, FlagName, MeterSettings, PortSettings, flag_bits
from simulators.modbus_farm import Farm
from simulators.mqtt_meters import MqttMeters
from simulators.mqtt_sender import MqttMeter
from simulators.mqtt_settings import MqttMeterSettings, MqttMetersSettings
from simulators.scenario import Group, Scenario
from simulators.scenario_checks import format_of
from simulators.scenario_events import SERIAL, Event
from simulators.scenario_fleet import SimMeter

_RARELY_S: Final = 3_600.0
_ZONE_S: Final = 28_800
_SAID: Final = {"bus_silent": "silent", "link_cut": "close"}
_DIGITS: Final = {"cjt188": 14, "dlt645": 12}


@dataclass(frozen=True, slots=True)
class Place:
    """How a gateway reaches a meter, in the words of a meters file."""

    bus_kind: str
    host: str
    port: int | str
    address: str


class VirtualFleet:
    """See the module. Starting opens all ports; `send` lets the MQTT meters begin; closing twice is harmless."""

    def __init__(
        self,
        scenario: Scenario,
        meters: list[SimMeter],
        clock: Clock,
        *,
        profiles: Mapping[str, Profile],
        folder: Path,
        log: Path,
        control: bool = False,
    ) -> None:
        """control: whether Modbus TCP meters take orders from outside, at a free port (`tcp.control_port`)."""
        self.log = AnswerLog(log)
        self._scenario, self._clock, self._folder, self._control = scenario, clock, folder, control
        self._meters = {meter.name: meter for meter in meters}
        self._numbers = {meter.name: number for number, meter in enumerate(meters, start=1)}
        self._buses: dict[str, list[SimMeter]] = {}
        for meter in meters:
            self._buses.setdefault(meter.bus, []).append(meter)
        self._groups = {bus: there[0].group for bus, there in self._buses.items()}
        self._tcp_buses = [bus for bus, group in self._groups.items() if group.protocol == "modbus-tcp"]
        curves = {meter.name: meter.curve for meter in meters}
        self.tcp = Farm(
            self._tcp_settings(), clock, profiles=profiles, flush_s=_RARELY_S, curves=curves, log=self.log
        )
        self.serial = BusFarm(
            self._bus_settings(), clock, profiles=profiles, flush_s=_RARELY_S, curves=curves, log=self.log
        )
        self.pushed: dict[str, MqttMeters] = {}
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._quantities = {name: p.index.quantity for name, p in profiles.items()}
        self._quantities |= {name: mqtt.index for name, mqtt in load_mqtt_profiles().items()}

    async def start(self, wires: Wires | None, broker: BrokerSettings) -> None:
        """Open all ports. wires: counts the bytes of pseudo-terminals, where time is virtual.

        broker: to which MQTT meters will send.
        """
        self._make_senders(broker)
        await self.tcp.start()
        await self.serial.start()
        for port in self.serial.ports.values():
            if isinstance(port, PtyPort) and wires is not None:
                wires.count_pty(port)

    def send(self) -> None:
        """Let the MQTT meters send, until `stop_sending`."""
        for bus, made in self.pushed.items():
            self._sending[bus] = asyncio.get_running_loop().create_task(made.run(), name=f"meters {bus}")

    def _make_senders(self, broker: BrokerSettings) -> None:
        curves = {meter.name: meter.curve for meter in self._meters.values()}
        for bus, meters in self._buses.items():
            if self._groups[bus].protocol != "mqtt":
                continue
            settings = MqttMetersSettings(
                meter=tuple(self._mqtt_settings(meter) for meter in meters), broker=broker, seed=self._scenario.seed
            )
            self.pushed[bus] = MqttMeters(
                settings, self._clock, curves=curves, flush_s=_RARELY_S, log=self.log, client_id=f"meters-{bus}"
            )

    async def stop_sending(self) -> None:
        """Let the MQTT meters fall silent; what is on its way arrives."""
        while self._sending:
            _, task = self._sending.popitem()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        """Close everything."""
        await self.stop_sending()
        await self.serial.close()
        await self.tcp.close()
        self.log.close()

    # --- what is known of them -------------------------------------------------------------------------------------

    def place(self, meter: SimMeter) -> Place:
        """Return how a gateway reaches a meter; after `start`."""
        group = meter.group
        if group.protocol == "modbus-tcp":
            port = self.tcp.ports[self._tcp_buses.index(meter.bus)]
            return Place("modbus-tcp", "127.0.0.1", port, str(meter.unit))
        if group.protocol == "mqtt":
            return Place("mqtt", "", "", self.device(meter))
        form = f"{group.baud}-{'8N1' if group.protocol == 'modbus-rtu' else '8E1'}"
        address = str(meter.unit) if group.protocol == "modbus-rtu" else self._address(meter)
        path = self.serial.path(meter.bus)
        if group.line == "pty":
            return Place(f"serial:{form}", path, "", address)
        host, _, number = path.rpartition(":")
        return Place(f"serial-tcp:{form}", host, int(number), address)

    def quantity(self, meter: SimMeter) -> Quantity | None:
        """Return what a meter's index is."""
        return self._quantities[meter.group.profile]

    def shown_at(self, meter: str, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units] that a meter would have shown, by the digits of its register."""
        if meter in self.tcp.meters:
            return self.tcp.meters[meter].shown_at(t_ms)
        if meter in self.serial.meters:
            return self.serial.meters[meter].index(t_ms)
        return self._pushed_meter(meter).index_at(t_ms)

    def shown(self, meter: str, index: int) -> int:
        """Return what the register of a meter shows of an index [10⁻⁶ house units]."""
        if meter in self.tcp.meters:
            return self.tcp.meters[meter].shown(index)
        if meter in self.serial.meters:
            return self.serial.meters[meter].shown(index)
        step = self._pushed_meter(meter).format.step
        return index // step * step

    def counted(self, meter: SimMeter, begin: int, end: int) -> int:
        """Return what a meter's registers show for a time [10⁻⁶ house units], each exchange with both its indexes."""
        found, since = 0, self.shown_at(meter.name, begin)
        for swap in meter.curve.exchanges:
            if begin < swap.at <= end:
                found += self.shown(meter.name, swap.final) - since
                since = swap.start
        return found + self.shown_at(meter.name, end) - since

    def requests(self) -> Counter[str]:
        """Return the whole requests that reached meters, by protocol; of MQTT meters the messages that they made."""
        found = Counter({"modbus-tcp": self.tcp.requests} if self._tcp_buses else {})
        for bus, line in self.serial.lines.items():
            found[self._groups[bus].protocol] += line.stats.requests
        for made in self.pushed.values():
            found["mqtt"] += sum(meter.counter + 1 for meter in made.meters.values())
        return found

    def messages_due(self, until: float) -> Counter[str]:
        """Return how many messages each MQTT meter had to send until then [s of the monotonic clock]."""
        due: Counter[str] = Counter()
        for made in self.pushed.values():
            for name, first in made.first_due.items():
                if first <= until:
                    due[name] = int((until - first) // made.meters[name].settings.interval_s) + 1
        return due

    # --- what the script does to them -------------------------------------------------------------------------------

    def set_fault(self, meter: str, event: Event | None) -> None:
        """Let an event of the line spoil a meter's answers, or none."""
        if meter in self.tcp.meters:
            self.tcp.meters[meter].set_fault(_tcp_fault(event) if event else None)
        elif meter in self.serial.meters:
            self._set_serial_fault(meter, event)
        else:
            sender = self._pushed_meter(meter)
            kind = "" if event is None else event.kind
            changes = {"drop": 1.0 if kind in ("silent", "bus_silent") else 0.0}
            changes["duplicate"] = event.share if event is not None and kind == "duplicate" else 0.0
            sender.settings = sender.settings.model_copy(update=changes)

    def spike(self, meter: str) -> None:
        """Let the index be 0 for one read; on other wires than Modbus TCP the curve does it."""
        if meter in self.tcp.meters:
            self.tcp.meters[meter].set_fault(FaultSettings(kind="zero_index", times=1))

    def set_flags(self, meter: str, flags: Iterable[FlagName]) -> None:
        """Let a meter report states of itself."""
        if meter in self.tcp.meters:
            self.tcp.meters[meter].set_flags(flags)
        else:
            self.serial.meters[meter].flags = flag_bits(flags)

    def drift_clock(self, meter: str, s_a_day: float) -> None:
        """Let a meter's clock go wrong by so much a day; with 0 right again, from where it stands."""
        clock = (
            self.serial.meters[meter].clock if meter in self.serial.meters else self._pushed_meter(meter).clock_error
        )
        clock.drift(s_a_day, self._clock.now_ms())

    def set_echo(self, bus: str, *, on: bool) -> None:
        """Let the adapter of a serial bus hear what it sends."""
        self.serial.lines[bus].echo = on or self._groups[bus].echo

    def delay(self, bus: str, seconds: float) -> None:
        """Let requests take so long to a bus; 0 ends it."""
        if bus in self.serial.lines:
            self.serial.lines[bus].delay_s = seconds
        else:
            self.tcp.delay(self._tcp_buses.index(bus), seconds)

    def half_open(self, bus: str, *, on: bool) -> None:
        """Let the far end of a bus's connections forget them, and those of newcomers while it is on."""
        self.tcp.go_deaf(self._tcp_buses.index(bus), newcomers=on)

    def cut(self, bus: str) -> None:
        """Break the connections to a bus; a serial line stays broken until `mend`, on TCP the meters hang up then."""
        if bus in self.serial.ports:
            self.serial.ports[bus].close()
        else:
            self.tcp.hang_up(self._tcp_buses.index(bus))

    async def mend(self, bus: str) -> None:
        """Put a broken serial line together."""
        if bus in self.serial.ports:
            await self.serial.ports[bus].open()

    def is_serial(self, bus: str) -> bool:
        """True for a pair of wires."""
        return bus in self.serial.lines

    # --- how they are made ------------------------------------------------------------------------------------------

    def _pushed_meter(self, meter: str) -> MqttMeter:
        return self.pushed[self._meters[meter].bus].meters[meter]

    def _set_serial_fault(self, name: str, event: Event | None) -> None:
        meter, simulated = self._meters[name], self.serial.meters[name]
        own = self._bus_meter(meter)
        if event is not None and event.kind == "address_clash":
            mine = self._buses[meter.bus]
            neighbour = self._bus_meter(mine[(mine.index(meter) + 1) % len(mine)])
            own = own.model_copy(update={"unit": neighbour.unit, "address": neighbour.address})
            event = None
        simulated.settings = own
        simulated.set_fault(_bus_fault(event) if event else None)

    def _tcp_settings(self) -> FarmSettings:
        ports = tuple(
            PortSettings(
                meter=tuple(
                    MeterSettings(meter=meter.name, unit=meter.unit, profile=meter.group.profile, curve="rest")
                    for meter in self._buses[bus]
                )
            )
            for bus in self._tcp_buses
        )
        control_port = 0 if self._control else None
        return FarmSettings(port=ports, seed=self._scenario.seed, control_port=control_port)

    def _bus_settings(self) -> BusFarmSettings:
        buses = tuple(self._serial_bus(bus, group) for bus, group in self._groups.items() if group.protocol in SERIAL)
        return BusFarmSettings(bus=buses, seed=self._scenario.seed)

    def _serial_bus(self, bus: str, group: Group) -> SimulatedBusSettings:
        return SimulatedBusSettings(
            name=bus,
            kind=group.line,
            link=self._folder / f"tty-{bus}" if group.line == "pty" else None,
            baud=group.baud,
            parity="none" if group.protocol == "modbus-rtu" else "even",
            pace=group.pace,
            echo=group.echo,
            meter=tuple(self._bus_meter(meter) for meter in self._buses[bus]),
        )

    def _bus_meter(self, meter: SimMeter) -> BusMeterSettings:
        return BusMeterSettings(
            meter=meter.name, profile=meter.group.profile, unit=meter.unit, address=self._address(meter),
            curve="rest", clock_off_s=_ZONE_S,
        )  # fmt: skip

    def _mqtt_settings(self, meter: SimMeter) -> MqttMeterSettings:
        form = format_of(meter.group.profile)
        return MqttMeterSettings(
            meter=meter.name, format=form, device=self.device(meter), interval_s=meter.group.interval_s,
            curve="rest",
        )  # fmt: skip

    def _address(self, meter: SimMeter) -> str:
        digits = _DIGITS.get(meter.group.protocol)
        return f"{self._numbers[meter.name]:0{digits}}" if digits else ""

    def device(self, meter: SimMeter) -> str:
        """Return the name of an MQTT meter at the broker."""
        if format_of(meter.group.profile) == "chirpstack":
            return f"0004a30b{self._numbers[meter.name]:08x}"
        return meter.name


def _tcp_fault(event: Event) -> FaultSettings:
    kind = _SAID.get(event.kind, event.kind)
    facts = {"kind": kind, "seconds": event.seconds, "code": event.code, "share": event.share}
    return FaultSettings.model_validate(facts)


def _bus_fault(event: Event) -> BusFaultSettings:
    kind = _SAID.get(event.kind, event.kind)
    return BusFaultSettings.model_validate({"kind": kind, "seconds": event.seconds, "share": event.share})
