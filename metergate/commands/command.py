"""`metergate command …`: read a meter now, set clocks, and show the key that gateways must know."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer

from metergate.command_office import models_with_clock
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metergate.operators import operator
from metergate.running import ConfigOption, registry
from metergate.settings import Settings, load_settings
from metering.clock import Clock, SystemClock, rfc3339
from metering.errors import RegistryError
from metering.settings import nearest
from metering.signing import load_or_make_key, new_nonce, public_path
from registry import clock_orders, commands
from registry.database import Database
from registry.models import Meter
from registry.roles import Actor, console

app = typer.Typer(no_args_is_help=True, help="Order something from a gateway: signed, sent by the API service.")
_LOOK_S: Final = 0.3
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the results; exit 1 unless all are done.")]


@app.command("read-now")
def read_now(
    meters: Annotated[list[str], typer.Argument(help="Ids of the meters.")],
    config: ConfigOption = None,
    wait: WaitOption = False,
) -> None:
    """Read meters before the sweep of their bus: one JSON line a gateway, with the command's nonce.

    Example: metergate command read-now W-3001 W-3002 --wait
    """

    def orders(connection: Any, settings: Settings, at: int) -> list[commands.Order]:
        groups = _by_gateway(connection, meters)
        deadline = settings.commands.command_deadline_s
        return [
            commands.Order(
                gateway, "read-now", {"meters": ids}, new_nonce(), ids[0] if len(ids) == 1 else "", deadline
            )
            for gateway, ids in groups.items()
        ]

    _order(config, orders, wait=wait)


@app.command("set-clock")
def set_clock(
    gateway: Annotated[str, typer.Argument(help="Id of the gateway.")],
    meters: Annotated[list[str] | None, typer.Argument(help="Only these meters; else all that take a time.")] = None,
    bus: Annotated[str, typer.Option(help="Only the meters on this bus.")] = "",
    config: ConfigOption = None,
    wait: WaitOption = False,
) -> None:
    """Set meters' clocks from their gateway's, in their local time, and read them back.

    Example: metergate command set-clock gw-east --bus stair-3 --wait
    """

    def orders(connection: Any, settings: Settings, at: int) -> list[commands.Order]:
        known = clock_orders.gateways(connection)
        if gateway not in known:
            raise RegistryError(f'no gateway "{gateway}" in the registry; {nearest(gateway, known)}')
        models, deadline = models_with_clock(settings), settings.commands.command_deadline_s
        groups = clock_orders.clocks_of(connection, gateway, models, at=at, bus=bus, meters=meters or None)
        if not groups:
            raise RegistryError(f"no meter of {gateway} to set")
        return [
            commands.Order(
                gateway, "set-clock", {"meters": ids, "utc_offset_s": offset}, new_nonce(), deadline_s=deadline
            )
            for offset, ids in groups
        ]

    _order(config, orders, wait=wait)


@app.command("tap")
def tap(
    gateway: Annotated[str, typer.Argument(help="Id of the gateway.")],
    seconds: Annotated[int, typer.Option(min=0, max=86_400, help="How long from then on; 0 ends a recording.")] = 600,
    bus: Annotated[list[str] | None, typer.Option(help="Only this bus (may be repeated).")] = None,
    meter: Annotated[list[str] | None, typer.Option(help="Only this meter (may be repeated).")] = None,
    to: Annotated[str, typer.Option(help="file (on the gateway), broker (its topic tap), or both.")] = "file",
    config: ConfigOption = None,
    wait: WaitOption = False,
) -> None:
    """Let a gateway record raw frames for a while; it ends by itself.

    Example: metergate command tap gw-east --bus stair-3 --seconds 900 --wait
    """

    def orders(connection: Any, settings: Settings, at: int) -> list[commands.Order]:
        known = clock_orders.gateways(connection)
        if gateway not in known:
            raise RegistryError(f'no gateway "{gateway}" in the registry; {nearest(gateway, known)}')
        if to not in ("file", "broker", "both"):
            raise RegistryError(f'--to "{to}": file, broker or both')
        args = {"seconds": seconds, "buses": bus or [], "meters": meter or [], "to": to}
        return [commands.Order(gateway, "tap", args, new_nonce(), deadline_s=settings.commands.command_deadline_s)]

    _order(config, orders, wait=wait)


@app.command("keys")
def keys(config: ConfigOption = None) -> None:
    """Show the office's public key (made at the first use): the file that gateway.office_keys names.

    Example: metergate command keys > office.pub
    """
    with errors_as_words():
        path = load_settings(config).commands.signing_key
        key = load_or_make_key(path)
        emit(key.public_pem.decode().rstrip("\n"))
        say(f"key {key.id}; private half {path}, public half {public_path(path)}")


def _order(config: Any, orders: Callable[[Any, Settings, int], list[commands.Order]], *, wait: bool) -> None:
    with errors_as_words():
        settings, clock = load_settings(config), SystemClock()
        key, actor = load_or_make_key(settings.commands.signing_key), _actor()
        with registry(settings) as database:
            at = clock.now_ms()
            with database.begin() as connection:
                made = [
                    commands.order(connection, actor, key, wanted, at=at)
                    for wanted in orders(connection, settings, at)
                ]
            rows = [_ended(database, row["nonce"], clock) for row in made] if wait else made
            for row in rows:
                emit(json.dumps(_shown(database, row), ensure_ascii=False))
        if wait and any(row["state"] != "done" for row in rows):
            raise typer.Exit(EXIT_FAILED)


def _ended(database: Database, nonce: str, clock: Clock) -> Mapping[str, Any]:
    """Wait until a command is closed; the API service sends it and picks its result up."""
    while True:
        with database.read() as connection:
            row = commands.find(connection, nonce)
        if row is None:
            raise RegistryError(f"command {nonce} is gone")
        if row["state"] not in commands.OPEN:
            return row
        if clock.now_ms() > row["deadline"] + 10_000:
            raise RegistryError(f"command {nonce} is still {row['state']}: does the API service run?")
        clock.pause(_LOOK_S)


def _shown(database: Database, row: Mapping[str, Any]) -> dict[str, Any]:
    with database.read() as connection:
        said = commands.answers(connection, row["nonce"], row["gateway_id"], row["issued_at"])
    return {
        "nonce": row["nonce"], "gateway": row["gateway_id"], "name": row["name"], "state": row["state"],
        "deadline": rfc3339(row["deadline"]), "result": row["result"],
        "meters": [{**answer, "at": rfc3339(answer["at"])} for answer in said],
    }  # fmt: skip


def _by_gateway(connection: Any, meters: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for meter in dict.fromkeys(meters):
        gateway = connection.execute(Meter.__table__.select().where(Meter.id == meter)).mappings().first()
        if gateway is None or gateway["gateway_id"] is None:
            raise RegistryError(f'no meter "{meter}" on a gateway', meter=meter)
        groups.setdefault(gateway["gateway_id"], []).append(meter)
    return groups


def _actor() -> Actor:
    return console(operator())
