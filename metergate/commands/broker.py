"""`metergate broker …`: who may log in at the broker, and the two files by which Mosquitto knows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from sqlalchemy.engine import Connection

from gateway.plan import load_plan, parse_plan
from gateway.profiles import load_profiles
from metergate.broker_access import acl_text, field_topics, users_text
from metergate.commands.books import make_plan
from metergate.console import emit, errors_as_words, say
from metergate.files import write_whole
from metergate.operators import operator
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metering.clock import SystemClock, rfc3339
from metering.errors import SettingsError
from registry import credentials
from registry.books import polled_meters
from registry.credentials import Issued, Login
from registry.roles import Actor, console

broker_app = typer.Typer(no_args_is_help=True, help="Logins and access list of the broker (Mosquitto).")

OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write the credential file here (mode 0600) instead of stdout.")
]
_LAYOUTS: Final = {"mosquitto": ("users", "acl", 0o600), "compose": ("mosquitto_users", "mosquitto_acl", 0o444)}
_HANGUP: Final = (
    "Mosquitto reads them on SIGHUP: systemctl reload mosquitto, or kill -HUP PID; in containers: "
    "docker-compose restart mosquitto"
)


@broker_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A gateway of the registry, office, or ingest, api, anomaly, watch.")],
    config: ConfigOption = None,
    out: OutOption = None,
    field: Annotated[bool, typer.Option("--field", help="For what sends on the topics of its MQTT meters.")] = False,
) -> None:
    """Make the first login of a gateway or service. The password is shown once; only its hash is kept.

    Example: metergate broker add gw-1 --out gw-1.credential
    """
    with errors_as_words(), _books(config) as (connection, actor, at):
        _refuse_present(out)
        issued = credentials.add(connection, credentials.owner_of(connection, name, field_meters=field), actor, at=at)
        _hand_out(issued, out)


@broker_app.command("rotate")
def rotate(
    name: Annotated[str, typer.Argument(help="The gateway or service whose password is to be replaced.")],
    config: ConfigOption = None,
    out: OutOption = None,
    field: Annotated[bool, typer.Option("--field", help="For what sends on the topics of its MQTT meters.")] = False,
) -> None:
    """Make a second login beside the one in use; both are good until the old one is retired.

    Then: broker write and SIGHUP; the new file to the gateway, which changes over by itself; broker retire OLD,
    broker write and SIGHUP.

    Example: metergate broker rotate gw-1 --out gw-1.credential
    """
    with errors_as_words(), _books(config) as (connection, actor, at):
        _refuse_present(out)
        owner = credentials.owner_of(connection, name, field_meters=field)
        _hand_out(credentials.rotate(connection, owner, actor, at=at), out)


@broker_app.command("retire")
def retire(
    user: Annotated[str, typer.Argument(help="The user, for example gw-1.1; see metergate broker list.")],
    config: ConfigOption = None,
) -> None:
    """End a login; the broker knows it until the files are written and it has read them.

    Example: metergate broker retire gw-1.1
    """
    with errors_as_words(), _books(config) as (connection, actor, at):
        left = credentials.retire(connection, user, actor, at=at)
        others = ", ".join(login.user for login in left) or "nothing else: it is locked out"
        say(f"{user} is retired; its owner still has {others}. Now: metergate broker write")


@broker_app.command("list")
def list_users(config: ConfigOption = None) -> None:
    """Print every user as a JSON line: user, owner, created_at and retired_at (null while good).

    Example: metergate broker list
    """
    with errors_as_words(), _books(config) as (connection, _, _at):
        for login in credentials.everyone(connection):
            facts = {"user": login.user, "owner": login.owner, "created_at": rfc3339(login.created_at)}
            retired = None if login.retired_at is None else rfc3339(login.retired_at)
            emit(json.dumps({**facts, "retired_at": retired}))


@broker_app.command("adopt")
def adopt(
    file: Annotated[Path, typer.Argument(help="A password file that deploy/init.py made (mosquitto_users).")],
    config: ConfigOption = None,
) -> None:
    """Take over users that deploy/init.py made, so that they can be rotated and retired here.

    Example: metergate broker adopt deploy/secrets/mosquitto_users
    """
    with errors_as_words(), _books(config) as (connection, actor, at):
        lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
        made = credentials.adopt(connection, lines, actor, at=at)
        say(f"taken over: {', '.join(made) or 'nothing new'}")


@broker_app.command("write")
def write(
    folder: Annotated[Path, typer.Option("--folder", "-f", help="Folder of Mosquitto's files.")],
    config: ConfigOption = None,
    layout: Annotated[
        str, typer.Option(help="mosquitto: users and acl, mode 0600; compose: as deploy/init.py names them.")
    ] = "mosquitto",
    plans: Annotated[
        list[Path] | None, typer.Option("--plan", help="A plan with MQTT meters made by hand; may be repeated.")
    ] = None,
) -> None:
    """Write the password file and the access list from the registry, each in one piece.

    Example: metergate broker write --folder /etc/mosquitto/metergate
    """
    with errors_as_words():
        if layout not in _LAYOUTS:
            raise SettingsError(f'--layout = "{layout}": allowed: {", ".join(_LAYOUTS)}')
        settings = load_settings(config)
        with registry(settings) as database, database.read() as connection:
            logins = credentials.good(connection)
            pushed = _with_mqtt_meters(connection, logins)
        made = (
            parse_plan(make_plan(settings.registry.url, gateway, 1), load_profiles(), name=f"plan of {gateway}")
            for gateway in pushed
        )
        by_hand = (load_plan(file, load_profiles(*settings.gateway.profiles)) for file in plans or [])
        topics = {plan.gateway: field_topics(plan) for plan in (*made, *by_hand)}
        users, acl, mode = _LAYOUTS[layout]
        access, known = acl_text(logins, topics), users_text(logins)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / acl, access, mode)  # first the fence, then who may come near it
        write_whole(folder / users, known, mode)
        say(f"{folder / users} and {folder / acl}: {len(logins)} users. {_HANGUP}")


def _with_mqtt_meters(connection: Connection, logins: list[Login]) -> list[str]:
    """Return the gateways, or gateways of field senders, among the logins whose plan has MQTT meters."""
    owners = {login.owner.removeprefix(credentials.FIELD) for login in logins}
    gateways = sorted(owner for owner in owners if not owner.startswith("@"))
    return [name for name in gateways if any(bus["kind"] == "mqtt" for bus in polled_meters(connection, name)[0])]


@contextmanager
def _books(config: Path | None) -> Iterator[tuple[Connection, Actor, int]]:
    """One writing transaction on the registry, who acts, and the time [ms UTC]."""
    with registry(load_settings(config)) as database, database.begin() as connection:
        yield connection, console(operator()), SystemClock().now_ms()


def _refuse_present(out: Path | None) -> None:
    if out is not None and out.exists():
        raise SettingsError(f"{out} is there already; name another file, or move it away")


def _hand_out(issued: Issued, out: Path | None) -> None:
    if out is None:
        emit(issued.text().rstrip("\n"))
        say(f"{issued.user}: user and password stand above, this once: two lines, the credential file")
    else:
        write_whole(out, issued.text(), 0o600)
        say(f"{out}: credential of {issued.user}; the gateway reads it by broker.credential_file")
    say("Now: metergate broker write --folder DIR")
