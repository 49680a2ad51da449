"""`metergate demo`: the whole house on embedded defaults, with progress and an honest summary at the end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Final

import msgspec
import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from gateway.profile_mqtt import load_mqtt_profiles
from gateway.profiles import load_profiles
from ingest.store_sqlite import SqliteStore
from metergate.console import EXIT_FAILED, err, errors_as_words, say
from metergate.house import GATEWAY, House, build
from metergate.house_findings import Injected, found_lines, prepare, watch_rules
from metergate.house_orders import finish, finish_line, hook_facts, hook_line, leak_order, listening, mend, told
from metergate.judge import Verdict, judge
from metergate.supervisor import Supervisor
from metering.clock import Clock, SystemClock
from metering.errors import MetergateError
from metering.quantities import Quantity
from metering.reading import Reading, Row
from registry.database import Database
from registry.ledger import load_meters, load_positions
from simulators.webhook_receiver import WebhookReceiver

_MARK: Final = ".metergate-demo"
_START_DEADLINE_S: Final = 180.0  # seconds on a desk; a busy machine of two cores took a minute
_DRAIN_DEADLINE_S: Final = 20.0
_LINE_EVERY_S: Final = 5.0
_EXCUSE_MS: Final = 1500


def demo(
    minutes: Annotated[float | None, typer.Option(min=0.05, help="End after so long, with a summary.")] = None,
    meters: Annotated[int, typer.Option(min=6, max=2000, help="How many simulated meters are polled.")] = 48,
    mqtt_meters: Annotated[int, typer.Option(min=0, max=2000, help="How many more send by MQTT.")] = 28,
    serial_meters: Annotated[int, typer.Option(min=0, max=32, help="How many more hang on a serial bus.")] = 6,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API; else from 8080 on.")] = None,
    folder: Annotated[Path, typer.Option(help="Where files and logs go; emptied at the start.")] = Path(
        "metergate-demo"
    ),
    finish_order: Annotated[
        bool, typer.Option(help="At the end of --minutes: mend the leak, and let a worker file its receipt.")
    ] = True,
) -> None:
    """Show the whole way of a reading on this machine: simulated meters, gateway, broker, ingest, store, API.

    Example: metergate demo --minutes 2
    """
    with errors_as_words(), _own_folder(folder) as mine:
        house = build(mine, meters=meters, api_port=port, mqtt_meters=mqtt_meters, serial_meters=serial_meters)
        clock = SystemClock()
        injected = prepare(house, clock)
        raise typer.Exit(asyncio.run(_run(house, injected, meters, minutes, clock, finish_order=finish_order)))


@contextlib.contextmanager
def _own_folder(wanted: Path) -> Iterator[Path]:
    """Hand out `wanted`, or `wanted-2`, … when another demo works there; old files of a demo are removed."""
    for number in range(1, 20):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
            raise MetergateError(f"{folder} holds other files; name an empty folder with --folder")
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _MARK).open("w")
        if not _locked(lock):
            lock.close()
            continue
        with lock:
            _empty(folder)
            yield folder.resolve()
            return
    raise MetergateError(f"{wanted} and its neighbours are all in use by other demos")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == _MARK:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@dataclass(frozen=True, slots=True)
class Progress:
    """polled: answers of the meters so far. produced, waiting: rows of the gateway's outbox. stored: readings.

    outbox: how it is, in a word. at: [ms UTC] when the gateway said so.
    """

    polled: int
    produced: int
    stored: int
    waiting: int
    outbox: str
    at: int

    def line(self) -> str:
        text = (
            f"polled {self.polled:,} · produced {self.produced:,} · stored {self.stored:,} · waiting {self.waiting:,}"
        )
        return text if self.outbox == "ok" else f"{text} · outbox {self.outbox}"


async def _run(
    house: House, injected: Injected, meters: int, minutes: float | None, clock: Clock, *, finish_order: bool
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor(house.services(), house.folder, clock)
    rules = Supervisor([house.anomaly()], house.folder, clock)
    started = clock.monotonic()
    outside = contextlib.AsyncExitStack()
    receiver = await outside.enter_async_context(listening(house, clock))
    await supervisor.start()
    watching = asyncio.create_task(
        watch_rules(house, injected, rules, lambda: read_progress(house).stored, clock), name="rules"
    )
    done: dict[str, Any] = {}
    try:
        if not await _ready(house, supervisor, clock, stop):
            return 0 if stop.is_set() else EXIT_FAILED
        _welcome(house, meters, clock.monotonic() - started)
        await _watch(house, supervisor, clock, stop, minutes)
        if minutes is None or stop.is_set():
            return 0
        if finish_order:
            await mend(house, [meter for meter, kind in injected.expected.items() if kind == "leak"], clock)
        await _drain(house, supervisor, clock)
        if finish_order:
            done = await _finish(house, injected, receiver, clock)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, TimeoutError, MetergateError):
            await watching
        await rules.stop(["anomaly"])
        await supervisor.stop()
        await outside.aclose()
    return _summary(house, injected, receiver, done)


async def _finish(house: House, injected: Injected, receiver: WebhookReceiver, clock: Clock) -> dict[str, Any]:
    """End the leak's order; what an overloaded machine did not manage is said in the summary."""
    try:
        if (number := leak_order(found_lines(house, injected))) is None:
            return {}
        done = await finish(house, number, clock)
        await told(receiver, "work_order.finished", clock)
        return done
    except MetergateError as error:
        return {"error": str(error)}


async def _ready(house: House, supervisor: Supervisor, clock: Clock, stop: asyncio.Event) -> bool:
    """Wait for the first stored reading and the API. False when stopped or too late (said why)."""
    end = clock.monotonic() + _START_DEADLINE_S
    while clock.monotonic() < end and not stop.is_set():
        if await _listens(house.api_port) and read_progress(house).stored:
            return True
        if dead := [name for name in supervisor.restarts if supervisor.restarts[name] > 2]:
            err.print(f"[red]✗[/red] {dead[0]} does not stay up; its last words:")
            say(supervisor.last_words(dead[0]))
            return False
        await clock.sleep(0.1)
    if not stop.is_set():
        err.print(
            "[red]✗[/red] no reading was stored within three minutes; see the logs in " + escape(str(house.folder))
        )
    return False


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _welcome(house: House, meters: int, seconds: float) -> None:
    address = f"http://127.0.0.1:{house.api_port}"
    err.print(
        f"[green]✓[/green] {meters} simulated meters are being polled, {house.mqtt_meters} send by MQTT, "
        f"{house.serial_meters} hang on a serial bus; "
        f"first reading stored after {seconds:.1f} s"
    )
    err.print(f"  API          [bold]{address}[/bold]   (pages: {address}/ and {address}/docs)")
    err.print(f"  log in       user [bold]admin[/bold], one-time password [bold]{house.password}[/bold]")
    err.print("  or a key     good for everything, for a month; it is in the header here:")
    line = f"curl -H 'Authorization: Bearer {house.key}' '{address}/api/v1/latest?limit=3'"
    err.print(f"  {escape(line)}", soft_wrap=True)
    err.print(f"  files, logs  {escape(str(house.folder))}")
    err.print("  Ctrl-C ends it.")


async def _watch(
    house: House, supervisor: Supervisor, clock: Clock, stop: asyncio.Event, minutes: float | None
) -> None:
    """Show progress until the time is over or somebody stops us: a live table for a person, lines for a log."""
    end = clock.monotonic() + minutes * 60 if minutes is not None else float("inf")
    every = 1.0 if err.is_terminal else _LINE_EVERY_S
    with (
        Live(console=err, auto_refresh=False, transient=True) if err.is_terminal else contextlib.nullcontext() as live
    ):
        while clock.monotonic() < end and not stop.is_set():
            progress = read_progress(house)
            if live is not None:
                live.update(_table(progress, supervisor), refresh=True)
            else:
                say(progress.line())
            with contextlib.suppress(TimeoutError):
                await clock.timeout(stop.wait(), min(every, max(0.0, end - clock.monotonic())))


def _table(progress: Progress, supervisor: Supervisor) -> Table:
    table = Table(title="Metergate")
    for title in ("polled", "produced", "stored", "waiting", "outbox", "restarts"):
        table.add_column(title, justify="right")
    restarts = sum(supervisor.restarts.values())
    numbers = (progress.polled, progress.produced, progress.stored, progress.waiting)
    table.add_row(*(f"{number:,}" for number in numbers), progress.outbox, str(restarts))
    return table


def read_progress(house: House) -> Progress:
    """Return where the readings are now; zeros while the files are not there yet."""
    health: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        health = json.loads((house.outbox.parent / "health.json").read_text("utf-8"))
    stored = 0
    with contextlib.suppress(MetergateError, OSError):
        stored = sum(position.stored for position in _positions(house))
    counters = health.get("counters", {})
    return Progress(
        polled=int(counters.get("polls", 0)) + int(counters.get("field_readings", 0)),
        produced=int(health.get("produced", 0)),
        stored=stored,
        waiting=int(health.get("waiting", 0)) + int(health.get("in_memory", 0)),
        outbox=str(health.get("outbox", "starting")),
        at=int(health.get("at", 0)),
    )


def _positions(house: House) -> list[Any]:
    database = Database(house.registry_url)
    try:
        with database.read() as connection:
            return [p for (gateway, _), p in load_positions(connection).items() if gateway == GATEWAY]
    finally:
        database.close()


async def _drain(house: House, supervisor: Supervisor, clock: Clock) -> None:
    """Let the meters fall silent and the outbox empty itself, so that the summary counts settled things."""
    await supervisor.stop(["meters", "mqtt-meters", "serial-meters"])
    silent_at = clock.now_ms()
    end = clock.monotonic() + _DRAIN_DEADLINE_S
    while clock.monotonic() < end:
        await clock.sleep(0.2)
        progress = read_progress(house)
        # the gateway goes on reporting failed reads, so one moment at which nothing waits must do
        if progress.at > silent_at + 1000 and not progress.waiting:
            return


def _summary(house: House, injected: Injected, receiver: WebhookReceiver, done: dict[str, Any]) -> int:
    """Hold the simulators' log against the store and say what came of every answer, and of what was wrong."""
    verdict = compare(house)
    mark = "[green]✓[/green]" if verdict.clean else "[red]✗[/red]"
    err.print(f"{mark} {escape(str(verdict))}")
    err.print(f"  largest distance between an answer and its read_at: {verdict.worst_ms} ms")
    for answer in verdict.lost[:10]:
        say(f"  lost: {answer}")
    for reading in verdict.invented[:10]:
        say(f"  invented or twice: {reading}")
    lines = found_lines(house, injected)
    for line in lines:
        mark = "[green]✓[/green]" if line["found"] else "[yellow]·[/yellow]"
        told = (
            f"found {_span(line['after_s'])} after it began, by {line['rule']}" if line["found"] else "not found yet"
        )
        err.print(f"{mark} {line['kind']} at {line['meter']}: {told}")
        if (order := line.get("order")) is not None:
            words = f"work order {order['id']}: {order['type']}, {order['priority']}, {order['state']}"
            err.print(escape(f"  {words}; {order['reason_en']}"), soft_wrap=True)
    if done:
        good = done.get("finding_over", False)
        said = finish_line(done) if "error" not in done else f"the leak's order is not finished: {done['error']}"
        err.print(f"{'[green]✓[/green]' if good else '[yellow]·[/yellow]'} {escape(said)}", soft_wrap=True)
    good = bool(receiver.kinds) and not receiver.unsigned
    err.print(f"{'[green]✓[/green]' if good else '[yellow]·[/yellow]'} {escape(hook_line(receiver))}", soft_wrap=True)
    print(
        json.dumps(
            {
                "findings": lines,
                "finished": done,
                "webhook": hook_facts(receiver),
                "served": verdict.served,
                "stored": verdict.stored,
                "waiting": verdict.waiting,
                "excused": verdict.excused,
                "lost": len(verdict.lost),
                "invented": len(verdict.invented),
            }
        )
    )
    return 0 if verdict.clean else EXIT_FAILED


def _span(seconds: int) -> str:
    return (
        f"{seconds} s"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
        if seconds < 172_800
        else f"{seconds // 86_400} d"
    )


def compare(house: House) -> Verdict:
    """Judge a house whose services have ended."""
    answers = list(house.read_answers())
    last = max((answer.at_ms for answer in answers), default=0)
    store = SqliteStore(house.store, mode="read")
    try:
        return judge(
            answers,
            (reading for reading in store.range(None, 0, 2**62) if reading.source != "import"),  # nobody polled those
            billed_quantities(house),
            waiting=read_outbox(house.outbox),
            # the gateway ended while the last answers were on their way to its disk
            excuse=lambda answer: answer.at_ms > last - _EXCUSE_MS,
        )
    finally:
        store.close()


def billed_quantities(house: House) -> dict[str, Quantity]:
    """Return meter -> billed quantity, from the registry."""
    database = Database(house.registry_url)
    try:
        with database.read() as connection:
            meters = load_meters(connection)
    finally:
        database.close()
    known = {profile.index.quantity for profile in load_profiles().values()}
    known |= {profile.index for profile in load_mqtt_profiles().values()}
    return {meter: facts.quantity for meter, facts in meters.items() if facts.quantity in known}


def read_outbox(path: Path) -> list[Reading]:
    """Return the readings that an outbox file holds; some may be stored already, their acknowledgement on its way."""
    if not path.exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        lines = [line for (rows,) in connection.execute("SELECT rows FROM chunk") for line in rows.split(b"\n")]
    finally:
        connection.close()
    rows = [msgspec.json.decode(line, type=Row) for line in lines]
    return [row for row in rows if isinstance(row, Reading) and row.source != "import"]
