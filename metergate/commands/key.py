"""`metergate key`: keys of programs that use the API."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from metergate.administration import AreaOptions, RoleOptions, chosen_areas, desk, shown_time
from metergate.console import emit, say
from metergate.running import ConfigOption
from registry import keys
from registry.keys import KeyFacts
from registry.roles import areas_to

_DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000

key_app = typer.Typer(no_args_is_help=True, help="Keys of programs: add, list, revoke, rotate.")

IdArgument = Annotated[str, typer.Argument(help="The key's first part, such as mg_ab12cd34.")]
DaysOption = Annotated[int, typer.Option("--days", min=1, help="Days for which it is good.")]


@key_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Which program uses it.")],
    role: RoleOptions = None,
    area: AreaOptions = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may look and never change.")] = False,
    days: DaysOption = 365,
    config: ConfigOption = None,
) -> None:
    """Make a key and print it; it is not shown again.

    Example: metergate key add "billing export" --role billing --area '*' --read-only --days 90
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        text, facts = keys.create(
            connection,
            at_desk.actor,
            name=name,
            roles=role or (),
            areas=chosen_areas(area),
            read_only=read_only,
            expires_at=at_desk.at + days * _DAY_MS,
            at=at_desk.at,
            limits=at_desk.settings.access,
        )
        emit_key(facts, at_desk.at, key=text)
        say('send it as a header, never in an address: curl -H "Authorization: Bearer KEY" …')


@key_app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Those that are over or revoked as well.")] = False,
    config: ConfigOption = None,
) -> None:
    """List the keys that are good, newest first; secrets are not kept anywhere.

    Example: metergate key list --all
    """
    with desk(config, changes=False) as at_desk, at_desk.database.read() as connection:
        for facts in keys.list_keys(connection, good_at=None if everything else at_desk.at):
            emit_key(facts, at_desk.at)


@key_app.command("revoke")
def revoke(key: IdArgument, config: ConfigOption = None) -> None:
    """End a key at once.

    Example: metergate key revoke mg_ab12cd34
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        emit_key(keys.revoke(connection, at_desk.actor, key_id(key), at=at_desk.at), at_desk.at)


@key_app.command("rotate")
def rotate(
    key: IdArgument,
    keep_hours: Annotated[int, typer.Option(min=0, help="Hours for which the old one stays good.")] = 24,
    days: DaysOption = 365,
    config: ConfigOption = None,
) -> None:
    """Make a new key with the same rights and print it; the old one stays good for a while.

    Example: metergate key rotate mg_ab12cd34 --keep-hours 24
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        text, facts = keys.rotate(
            connection,
            at_desk.actor,
            key_id(key),
            old_until=at_desk.at + keep_hours * _HOUR_MS,
            expires_at=at_desk.at + days * _DAY_MS,
            at=at_desk.at,
            limits=at_desk.settings.access,
        )
        emit_key(facts, at_desk.at, key=text)
        old = keys.get(connection, key_id(key))
        say(f"{key_id(key)} stays good until {shown_time(old.expires_at if old else None)}")


def key_id(text: str) -> str:
    """Return the public part, also of a whole key that somebody pasted."""
    return "_".join(text.split("_")[:2])


def emit_key(facts: KeyFacts, at: int, **more: str) -> None:
    """Write a key as one JSON line."""
    plain = {
        "id": facts.id,
        "name": facts.name,
        "roles": sorted(facts.actor.roles),
        "areas": areas_to(facts.actor.areas),
        "read_only": facts.actor.read_only,
        "good": facts.good(at),
        "created_by": facts.created_by,
        "created_at": shown_time(facts.created_at),
        "expires_at": shown_time(facts.expires_at),
        "revoked_at": shown_time(facts.revoked_at),
        "used_at": shown_time(facts.used_at),
    }
    emit(json.dumps(plain | more, ensure_ascii=False))
