"""`metergate record …`: keep raw frames of a plan's buses, of a running gateway, or of a broker's topics."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from gateway.meter_poll import Backoff
from gateway.plan import Plan, load_plan
from gateway.poller import Poller
from gateway.profiles import load_profiles
from gateway.tap import LONGEST_S, ORDER_FILE, Tap, TapOrder
from gateway.tap_settings import TapSettings
from metergate.console import emit, errors_as_words, say
from metergate.running import ConfigOption, prepare
from metergate.settings import load_settings
from metering.clock import Clock, SystemClock
from metering.errors import MessageError
from metering.messages import gateway_of
from metering.mqtt import BrokerSettings, Delivery, MqttSession
from metering.recording import VERSION, Frame, Header, Note, RecordedBus, encode_line
from metering.signing import new_nonce

app = typer.Typer(no_args_is_help=True, help="Record raw frames; docs/recordings.md tells what becomes of them.")
SecondsOption = Annotated[float, typer.Option(min=0.1, max=LONGEST_S, help="How long.")]
OutOption = Annotated[Path, typer.Option("--out", help="File to write; what is there is kept and gone on with.")]


@app.command("poll")
def poll(
    plan: Annotated[Path, typer.Option("--plan", help="Plan file: its buses are polled by it, without an outbox.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the recording.")] = Path("recordings"),
    seconds: SecondsOption = 60.0,
    bus: Annotated[list[str] | None, typer.Option(help="Only this bus (may be repeated).")] = None,
    meter: Annotated[list[str] | None, typer.Option(help="Only this meter (may be repeated).")] = None,
    config: ConfigOption = None,
) -> None:
    """Poll a plan's buses for a while and record both ways; no gateway may be using them.

    Example: metergate record poll --plan plan.toml --seconds 120 --bus stair-3
    """
    with errors_as_words():
        profiles = load_profiles(*prepare(config, "record").gateway.profiles)
        order = TapOrder(0, tuple(bus or ()), tuple(meter or ()))
        checked = load_plan(plan, profiles)
        counters = asyncio.run(_poll(checked, order, TapSettings(folder=out), seconds, SystemClock()))
        say(f"{counters['readings']} readings, {counters['failed_reads']} failed; {counters['tap_lines']} lines")
        for path in sorted(out.glob(f"tap-{checked.gateway}-*.jsonl"))[-1:]:
            emit(str(path))


async def _poll(plan: Plan, order: TapOrder, settings: TapSettings, seconds: float, clock: Clock) -> dict[str, int]:
    poller = Poller(
        plan, clock=clock, rng=random.Random(new_nonce()), backoff=Backoff(), put=lambda row: True,
        pressure=lambda: 0.0,
    )  # fmt: skip
    tap = Tap(settings, plan.gateway, clock=clock, buses=lambda: poller.buses.values(), pushed=lambda: None)
    tap.start(order)
    work = [asyncio.ensure_future(poller.run()), asyncio.ensure_future(tap.run())]
    try:
        await clock.sleep(seconds)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    return {**poller.counters, **tap.counters}


@app.command("tap")
def tap(
    config: ConfigOption = None,
    seconds: Annotated[float, typer.Option(min=0, max=LONGEST_S, help="How long; 0 ends a recording.")] = 600.0,
    bus: Annotated[list[str] | None, typer.Option(help="Only this bus (may be repeated).")] = None,
    meter: Annotated[list[str] | None, typer.Option(help="Only this meter (may be repeated).")] = None,
    topics: Annotated[bool, typer.Option("--topics/--no-topics", help="Messages of the field broker too.")] = True,
) -> None:
    """Let the gateway of this host record, while it goes on with its work; it looks once a second.

    Example: metergate record tap --config metergate.toml --bus stair-3 --seconds 900
    """
    with errors_as_words():
        settings, clock = load_settings(config).gateway, SystemClock()
        until = clock.now_ms() + round(1000 * seconds) if seconds else 0
        order = TapOrder(until, tuple(bus or ()), tuple(meter or ()), topics)
        path = settings.outbox.parent / ORDER_FILE
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(order))
        os.replace(fresh, path)
        say(
            "ended"
            if not seconds
            else f"ordered; recordings come into {settings.outbox.parent / settings.tap.folder}"
        )


@app.command("topic")
def topic(
    topics: Annotated[list[str], typer.Argument(help="Topics, + and # allowed.")],
    out: OutOption = Path("topics.jsonl"),
    seconds: SecondsOption = 60.0,
    count: Annotated[int, typer.Option(min=0, help="End after so many messages; 0 for none but the time.")] = 0,
    where: Annotated[Literal["field", "uplink"], typer.Option("--broker", help="Which broker.")] = "field",
    config: ConfigOption = None,
) -> None:
    """Record messages of a broker as they come; those of a gateway's topic tap as the lines that they carry.

    Example: metergate record topic 'application/+/device/+/event/up' --seconds 3600 --out lora.jsonl
    """
    with errors_as_words():
        settings = prepare(config, "record")
        broker = settings.field_broker if where == "field" else settings.broker
        came = asyncio.run(_listen(topics, broker, out, seconds, SystemClock(), most=count))
        say(f"{came} messages")
        emit(str(out))


async def _listen(
    topics: list[str], broker: BrokerSettings, out: Path, seconds: float, clock: Clock, *, most: int = 0
) -> int:
    session = MqttSession(
        broker, client_id=f"mg-record-{new_nonce()[:8]}", clock=clock, subscriptions=[(name, 1) for name in topics]
    )
    link = asyncio.ensure_future(session.run())
    count, end = 0, clock.monotonic() + seconds
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        header = Header(VERSION, "", clock.now_ms(), clock.monotonic(), buses=[RecordedBus("mqtt", "mqtt")])
        _put(file, encode_line(header))
        while (rest := end - clock.monotonic()) > 0 and (not most or count < most):
            try:
                deliveries = await clock.timeout(session.receive(500), rest)
            except TimeoutError:
                break
            for delivery in deliveries:
                _put(file, _lines(delivery, clock))
                delivery.ack()
            count += len(deliveries)
        _put(file, encode_line(Note(clock.monotonic(), clock.now_ms(), "ended")))
    finally:
        os.close(file)
        link.cancel()
        await asyncio.gather(link, return_exceptions=True)
    if not session.counters["connects"]:
        say(f"the broker was never reached: {session.last_problem}")
    return count


def _lines(delivery: Delivery, clock: Clock) -> bytes:
    if _is_tap(delivery.topic):
        return delivery.payload if delivery.payload.endswith(b"\n") else delivery.payload + b"\n"
    frame = Frame(
        round(clock.monotonic(), 6), clock.now_ms(), "rx", delivery.payload.hex(), "mqtt", topic=delivery.topic,
        qos=delivery.qos, retain=delivery.retain,
    )  # fmt: skip
    return encode_line(frame)


def _is_tap(name: str) -> bool:

    try:
        return name.endswith("/tap") and bool(gateway_of(name))
    except MessageError:
        return False


def _put(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
