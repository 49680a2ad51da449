"""`metergate replay …`: recordings through the decoders, as meters on the wire, as messages; stored readings."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from gateway.outbox import Outbox
from gateway.plan import load_plan
from gateway.profiles import load_profiles
from gateway.replay.decoding import decode_recording
from gateway.send_ledger import SendLedger
from gateway.uplink import Uplink
from metergate.console import emit, errors_as_words, say
from metergate.running import ConfigOption, prepare
from metergate.settings import Settings
from metering.clock import Clock, SystemClock, parse_rfc3339
from metering.errors import SettingsError
from metering.messages import OFFICE, VERSION, Health
from metering.mqtt import MqttSession
from metering.quantities import UNITS, Quantity
from metering.reading import Reading
from metering.recording import Recording, read_recording, select
from metering.settings import nearest
from metering.signing import new_nonce
from simulators.outcomes import event_line, reading_line, write_outcome
from simulators.replay import ReplayFarm, SerialKind, publish
from simulators.replay_rows import read_rows, renamed, send_rows

app = typer.Typer(no_args_is_help=True, help="Replay recordings and stored readings.")
Files = Annotated[list[Path], typer.Argument(help="Recording; several files are its parts, in their order.")]
SpeedOption = Annotated[str, typer.Option(help="1 as recorded, 10 ten times as fast, max without waiting.")]
BusOption = Annotated[list[str] | None, typer.Option("--bus", help="Only this bus (may be repeated).")]
MeterOption = Annotated[list[str] | None, typer.Option("--meter", help="Only this meter (may be repeated).")]


@app.command("decode")
def decode(
    recording: Files,
    plan: Annotated[Path, typer.Option("--plan", help="Plan by which it was recorded.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for readings, events and counts.")] = None,
    bus: BusOption = None,
    meter: MeterOption = None,
    config: ConfigOption = None,
) -> None:
    """Feed a recording into the gateway's drivers and decoders on virtual time; without --out JSON lines.

    Example: metergate replay decode tap-gw-east-*.jsonl --plan plan.toml --out after/
    """
    with errors_as_words():
        profiles = load_profiles(*prepare(config, "replay").gateway.profiles)
        chosen = select(read_recording(*recording), buses=bus or (), meters=meter or ())
        outcome = decode_recording(chosen, load_plan(plan, profiles))
        for note in outcome.notes:
            say(note)
        if outcome.skipped:
            say(f"{outcome.skipped} exchanges began no poll of this plan and were left out")
        if out is not None:
            write_outcome(out, outcome.rows, outcome.counts)
            say(f"{len(outcome.rows)} rows; {out}")
            return
        for row in outcome.rows:
            line = reading_line(row) if isinstance(row, Reading) else event_line(row)
            emit(json.dumps(line, ensure_ascii=False))


@app.command("serve")
def serve(
    recording: Files,
    speed: SpeedOption = "1",
    again: Annotated[bool, typer.Option("--again", help="Begin anew when all was asked.")] = False,
    serial: Annotated[str, typer.Option(help="Serial buses as pty (pseudo-terminals) or tcp (boxes).")] = "pty",
    links: Annotated[
        Path | None, typer.Option("--links", help="Folder for stable names of pseudo-terminals.")
    ] = None,
    bus: BusOption = None,
    seconds: Annotated[float, typer.Option(min=0, help="End after so long; 0 runs until Ctrl-C.")] = 0.0,
) -> None:
    """Serve a recording as meters on the wire. The first line says where; the last one counts.

    Example: metergate replay serve tap-gw-east-*.jsonl --serial tcp --again
    """
    with errors_as_words():
        if serial not in ("pty", "tcp"):
            raise SettingsError(f'--serial "{serial}": pty or tcp')
        prepare(None, "replay")
        chosen = _sound(recording, bus)
        farm = ReplayFarm(
            chosen, SystemClock(), speed=_speed(speed), again=again, serial=cast(SerialKind, serial), links=links
        )
        if not farm.books:
            raise SettingsError("nothing was asked on a bus in this recording; messages are for `replay publish`")
        asyncio.run(_serve(farm, seconds))


async def _serve(farm: ReplayFarm, seconds: float) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await farm.start()
        emit(json.dumps(farm.greeting()))
        if seconds:
            loop.call_later(seconds, stop.set)
        await stop.wait()
    finally:
        await farm.close()
        emit(json.dumps({"event": "ended", "buses": farm.stats()}))


@app.command("publish")
def publish_messages(
    recording: Files,
    speed: SpeedOption = "1",
    where: Annotated[Literal["field", "uplink"], typer.Option("--broker", help="Which broker.")] = "field",
    config: ConfigOption = None,
) -> None:
    """Publish recorded MQTT messages again, on their own topics.

    Example: metergate replay publish lora.jsonl --speed 10
    """
    with errors_as_words():
        chosen, rate, settings = _sound(recording, None), _speed(speed), prepare(config, "replay")
        sent = asyncio.run(_publish(chosen, settings, rate, field=where == "field"))
        say(f"{sent} messages published")


async def _publish(recording: Recording, settings: Settings, speed: float, *, field: bool) -> int:
    clock, broker = SystemClock(), settings.field_broker if field else settings.broker
    session = MqttSession(broker, client_id=f"mg-replay-{new_nonce()[:8]}", clock=clock)
    link = asyncio.ensure_future(session.run())
    try:
        await clock.timeout(_connected(session, clock), 20.0)
        return await publish(recording.frames, session, clock, speed=speed)
    except TimeoutError:
        raise SettingsError(f"the broker is not reached: {session.last_problem}") from None
    finally:
        link.cancel()
        await asyncio.gather(link, return_exceptions=True)


async def _connected(session: MqttSession, clock: Clock) -> None:
    while not session.connected:
        await clock.sleep(0.02)


@app.command("stored")
def stored(
    gateway: Annotated[str, typer.Option("--gateway", help="Name under which it is sent; none that works.")],
    readings: Annotated[Path | None, typer.Option("--readings", help="File instead of the store.")] = None,
    quantity: Annotated[str, typer.Option(help="What the column index of a CSV means.")] = "volume",
    since: Annotated[str, typer.Option("--from", help="Start of a stored period, with offset.")] = "",
    until: Annotated[str, typer.Option("--to", help="Its end.")] = "",
    prefix: Annotated[str, typer.Option(help="Put before each meter's id.")] = "replay-",
    to_now: Annotated[bool, typer.Option("--to-now", help="Shift times so that the first reading is now.")] = False,
    speed: SpeedOption = "max",
    outbox: Annotated[Path, typer.Option("--outbox", help="Outbox file of its own.")] = Path("var/replay/outbox.db"),
    send: Annotated[bool, typer.Option("--send/--keep", help="Send it on until ingest has it, or only keep.")] = True,
    config: ConfigOption = None,
) -> None:
    """Replay stored readings as another gateway: other ids, the same values; nothing that is stored is touched.

    Example: metergate replay stored --gateway gw-replay --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z
    """
    with errors_as_words():
        if gateway == OFFICE or not prefix:
            raise SettingsError(f'--gateway must not be "{OFFICE}", and --prefix must not be empty')
        if quantity not in UNITS:
            raise SettingsError(f'--quantity "{quantity}": no such quantity; {nearest(quantity, list(UNITS))}')
        settings, clock, rate = prepare(config, "replay"), SystemClock(), _speed(speed)
        rows = _rows(settings, readings, quantity, since, until)
        shift = clock.now_ms() - rows[0].read_at if to_now else 0
        named = list(renamed(rows, prefix=prefix, shift_ms=shift))
        sent = asyncio.run(_hand_on(settings, gateway, outbox, named, rate, send=send))
        say(f"{len(rows)} readings of {len({row.meter for row in rows})} meters as {gateway}; {sent}")


def _rows(settings: Settings, path: Path | None, quantity: Quantity, since: str, until: str) -> list[Reading]:
    if path is not None:
        rows, faults = read_rows(path, quantity)
        for fault in faults[:20]:
            say(fault)
        return rows
    from metergate.stores import make_store  # only here: a gateway's host has no API's packages

    try:
        t0, t1 = parse_rfc3339(since), parse_rfc3339(until)
    except ValueError as error:
        raise SettingsError(f"--from and --to, or --readings: {error}") from None
    with closing(make_store(settings.store, "read", SystemClock())) as store:
        rows = sorted(store.range(None, t0, t1), key=lambda row: (row.read_at, row.meter))
    if not rows:
        raise SettingsError(f"nothing is stored from {since} to {until}")
    return rows


async def _hand_on(
    settings: Settings, gateway: str, path: Path, rows: list[Reading], speed: float, *, send: bool
) -> str:
    clock, rng = SystemClock(), random.Random(new_nonce())
    path.parent.mkdir(parents=True, exist_ok=True)
    outbox = Outbox(path, gateway=gateway, clock=clock, rng=rng)
    await outbox.open()
    link: asyncio.Task[None] | None = None
    try:
        if send:
            link = asyncio.ensure_future(_uplink(outbox, settings, clock, rng).run())
        await send_rows(rows, outbox.append, clock, speed=speed)
        while link is not None and outbox.held:
            await clock.sleep(0.1)
            if link.done():
                await link
    finally:
        if link is not None:
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)
        await outbox.close()
    return "ingest has them" if send else f"kept in {path}"


def _uplink(outbox: Outbox, settings: Settings, clock: Clock, rng: random.Random) -> Uplink:
    wanted = settings.gateway
    ledger = SendLedger(
        rng, window=wanted.window_messages, ack_timeout_s=wanted.ack_timeout_s, backlog_rows_s=1e6,
        gather_s=wanted.gather_s,
    )  # fmt: skip

    def health() -> Health:
        facts: dict[str, Any] = {
            "v": VERSION, "gateway": outbox.gateway, "epoch": outbox.epoch, "at": clock.now_ms(),
            "produced": outbox.produced, "acknowledged": outbox.oldest - 1, "waiting": outbox.held.count,
            "in_memory": outbox.in_memory, "oldest_at": outbox.oldest_at, "outbox": outbox.state,
            "outbox_reason": outbox.reason, "meters": 0, "meters_silent": 0, "counters": {},
        }  # fmt: skip
        return Health(**facts)

    return Uplink(
        outbox, ledger, settings.broker, clock=clock, version="replay", health=health,
        health_interval_s=wanted.health_interval_s, on_event=lambda event: None,
    )  # fmt: skip


def _sound(files: list[Path], buses: list[str] | None) -> Recording:
    """Read a recording and name what is not sound in it."""
    found = read_recording(*files)
    for fault in found.faults:
        say(fault)
    if found.dropped:
        say(f"{found.dropped} lines were dropped when this was recorded")
    return select(found, buses=buses or ())


def _speed(text: str) -> float:
    """Return 0 for max. Raises: SettingsError."""
    try:
        speed = 0.0 if text == "max" else float(text)
    except ValueError:
        speed = -1.0
    if text != "max" and not 0.01 <= speed <= 100_000:
        raise SettingsError(f'--speed "{text}": a number from 0.01 to 100000, or max')
    return speed
