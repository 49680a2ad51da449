"""A Sparkplug B edge node with simulated flow computers: births, aliases, seq, will, rebirth on command.

Source: Eclipse Sparkplug specification 3.0.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from gateway.protocols import sparkplug_b
from gateway.protocols.sparkplug_b import Metric, Payload
from gateway.protocols.sparkplug_births import metric, node_birth, node_death
from metering.clock import Clock
from metering.errors import FrameError
from metering.mqtt import BrokerSettings, Message, MqttSession
from metering.quantities import Quantity
from simulators.mqtt_formats import Shown
from simulators.mqtt_sender import MqttMeter, Sender

_METRICS: Final[dict[Quantity, str]] = {
    "volume": "gas/base_volume",
    "volume_actual": "gas/actual_volume",
    "flow": "gas/base_flow",
    "pressure": "gas/pressure_kpa",
    "temperature": "gas/temperature_c",
}


class EdgeNodeSimulator:
    """One edge node and its devices. `run` beside `session.run()`."""

    def __init__(self, group: str, edge: str, meters: list[MqttMeter], broker: BrokerSettings, clock: Clock) -> None:
        self.meters = meters
        self._group, self._edge = group, edge
        self._clock = clock
        self._seq = -1
        self._aliases = {meter.settings.device: 100 * place for place, meter in enumerate(meters)}
        self.session = MqttSession(
            broker,
            client_id=f"sim-{group}-{edge}",
            clock=clock,
            subscriptions=[(self._topic("NCMD"), 1)],
            will=Message(self._topic("NDEATH"), sparkplug_b.encode(node_death(0)), 1),
        )
        self._sender = Sender(self.session, clock)

    def _topic(self, kind: str, device: str = "") -> str:
        return "/".join(part for part in (sparkplug_b.NAMESPACE, self._group, kind, self._edge, device) if part)

    async def obey(self) -> None:
        """Be born again whenever a host asks for it."""
        while True:
            for delivery in await self.session.receive(10):
                delivery.ack()
                try:
                    asked = sparkplug_b.decode(delivery.payload).metrics
                except FrameError:
                    continue
                if any(m.name == sparkplug_b.REBIRTH and sparkplug_b.value_of(m) for m in asked):
                    await self.birth()

    async def birth(self) -> None:
        """Announce the node and all devices, with the values of this moment."""
        self._seq = 0
        payload = node_birth(0, (), timestamp=self._clock.now_ms())
        births = [(self._topic("NBIRTH"), payload)]
        for meter in self.meters:
            rows = meter.sample()[-1:]
            meter.note(rows, "ok")
            metrics = tuple(m for _, shown in rows for m in self._metrics(meter, shown, bare=False))
            births.append((self._topic("DBIRTH", self._device(meter)), self._payload(metrics)))
        for topic, birth in births:
            await self._sender.deliver(topic, sparkplug_b.encode(birth), qos=0)

    async def send_next(self, meter: MqttMeter) -> None:
        """One DDATA: aliases only; earlier rows are historical."""
        if self._seq < 0:
            await self.birth()
            return
        rows = meter.sample()
        metrics = [
            m
            for place, (_, shown) in enumerate(rows)
            for m in self._metrics(meter, shown, bare=True, historical=place < len(rows) - 1)
        ]
        if not metrics:
            return
        payload = self._payload(tuple(metrics))
        lost = meter.chance.random() < meter.settings.drop
        meter.note(rows, "dropped" if lost else "ok" if self.session.connected else "unsent")
        if not lost:
            topic = self._topic("DDATA", self._device(meter))
            await self._sender.deliver(topic, sparkplug_b.encode(payload), qos=0)

    def _payload(self, metrics: tuple[Metric, ...]) -> Payload:
        self._seq = (self._seq + 1) % 256
        return Payload(self._clock.now_ms(), metrics, self._seq)

    @staticmethod
    def _device(meter: MqttMeter) -> str:
        return meter.settings.device.rsplit("/", 1)[1]

    def _metrics(self, meter: MqttMeter, shown: Shown, *, bare: bool, historical: bool = False) -> list[Metric]:
        first = self._aliases[meter.settings.device]
        return [
            metric(
                name,
                "Double",
                Decimal(shown.values[quantity]).scaleb(-6),
                timestamp=shown.at_ms,
                alias=first + place,
                historical=historical,
                bare=bare,
            )
            for place, (quantity, name) in enumerate(_METRICS.items())
        ]
