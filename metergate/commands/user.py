"""`metergate user`: people who may log in, made and changed by whoever runs the host."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from metergate.administration import AreaOptions, Desk, RoleOptions, chosen_areas, desk, shown_time
from metergate.console import emit, say
from metergate.running import ConfigOption
from registry import keys, totp, users
from registry.roles import Rank, areas_to
from registry.users import UserFacts

user_app = typer.Typer(no_args_is_help=True, help="People who may log in: add, list, change, disable, unlock.")
totp_app = typer.Typer(no_args_is_help=True, help="A user's second factor (codes of an authenticator app).")
user_app.add_typer(totp_app, name="totp")

NameArgument = Annotated[str, typer.Argument(help="The user's login name.")]
RankOptions = Annotated[list[Rank] | None, typer.Option("--rank", help="What he may approve; repeat for several.")]
ShownName = Annotated[str | None, typer.Option("--display-name", help="Name as people know it.")]


@user_app.command("add")
def add(
    name: NameArgument,
    role: RoleOptions = None,
    rank: RankOptions = None,
    area: AreaOptions = None,
    display_name: ShownName = None,
    config: ConfigOption = None,
) -> None:
    """Add a user and print his one-time password, which he must change at his first login.

    Example: metergate user add li --role dispatcher --role operator --area D1 --display-name 李雷
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        user, password = users.create(
            connection,
            at_desk.actor,
            name=name,
            display_name=display_name or "",
            roles=role or (),
            ranks=rank or (),
            areas=chosen_areas(area),
            at=at_desk.at,
            limits=at_desk.settings.access,
        )
        emit_user(user, one_time_password=password)
        if user.areas == frozenset():
            say(f"{name} sees no area yet; give some: metergate user edit {name} --area D1")
        _say_password(at_desk, name)


def _say_password(at_desk: Desk, name: str) -> None:
    hours = at_desk.settings.access.one_time_h
    say(f"{name}'s one-time password is good for {hours} h and is not shown again")


@user_app.command("list")
def list_(config: ConfigOption = None) -> None:
    """List all users.

    Example: metergate user list | jq 'select(.enabled)'
    """
    with desk(config, changes=False) as at_desk, at_desk.database.read() as connection:
        for user in users.list_users(connection):
            emit_user(user)


@user_app.command("edit")
def edit(
    name: NameArgument,
    role: RoleOptions = None,
    rank: RankOptions = None,
    area: AreaOptions = None,
    display_name: ShownName = None,
    no_rank: Annotated[bool, typer.Option("--no-rank", help="Take all ranks away.")] = False,
    config: ConfigOption = None,
) -> None:
    """Change a user; roles, ranks and areas that are given replace all that he had. His logins end.

    Example: metergate user edit li --role supervisor --area D1 --area D2
    """
    with desk(config, changes=True) as at_desk:
        ranks: list[Rank] | None = [] if no_rank else rank
        areas = None if area is None else areas_to(chosen_areas(area))
        _edit(at_desk, name, roles=role, ranks=ranks, areas=areas, display_name=display_name)


@user_app.command("disable")
def disable(name: NameArgument, config: ConfigOption = None) -> None:
    """Disable a user: his logins end and none is taken; his name stays, because the audit knows it.

    Example: metergate user disable li
    """
    with desk(config, changes=True) as at_desk:
        _edit(at_desk, name, enabled=False)
        with at_desk.database.read() as connection:
            made = keys.list_keys(connection, created_by=f"user:{name}", good_at=at_desk.at)
        for key in made:
            say(f"key {key.id} ({key.name}), which {name} made, stays good; metergate key revoke {key.id} ends it")


@user_app.command("enable")
def enable(name: NameArgument, config: ConfigOption = None) -> None:
    """Let a disabled user log in again.

    Example: metergate user enable li
    """
    with desk(config, changes=True) as at_desk:
        _edit(at_desk, name, enabled=True)


def _edit(at_desk: Desk, name: str, **changes: Any) -> None:
    with at_desk.database.begin() as connection:
        emit_user(users.edit(connection, at_desk.actor, name, version=None, at=at_desk.at, **changes))


@user_app.command("reset-password")
def reset_password(name: NameArgument, config: ConfigOption = None) -> None:
    """Print a new one-time password for a user; his logins end and his lock is gone.

    Example: metergate user reset-password admin
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        limits = at_desk.settings.access
        password = users.reset_password(connection, at_desk.actor, name, at=at_desk.at, limits=limits)
        emit_user(users.need(connection, name), one_time_password=password)
        _say_password(at_desk, name)


@user_app.command("unlock")
def unlock(name: NameArgument, config: ConfigOption = None) -> None:
    """Forget a user's wrong logins.

    Example: metergate user unlock li
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        emit_user(users.unlock(connection, at_desk.actor, name, at=at_desk.at))


@totp_app.command("enrol")
def totp_enrol(name: NameArgument, config: ConfigOption = None) -> None:
    """Print a new secret for a user's authenticator app; it counts once `totp confirm` has seen a code of it.

    Example: metergate user totp enrol li
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        secret, address = totp.enrol(connection, at_desk.actor, name, at=at_desk.at)
        emit(json.dumps({"name": name, "secret": secret, "otpauth": address}))
        say(f"then: metergate user totp confirm {name} CODE")


@totp_app.command("confirm")
def totp_confirm(
    name: NameArgument,
    code: Annotated[str, typer.Argument(help="The app's six digits.")],
    config: ConfigOption = None,
) -> None:
    """Make a user's new secret the one that logins ask for.

    Example: metergate user totp confirm li 123456
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        totp.confirm(connection, at_desk.actor, name, code, at=at_desk.at)
        emit_user(users.need(connection, name))


@totp_app.command("remove")
def totp_remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Take a user's second factor away, as when the phone is lost.

    Example: metergate user totp remove li
    """
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        totp.remove(connection, at_desk.actor, name, at=at_desk.at)
        emit_user(users.need(connection, name))


def emit_user(user: UserFacts, **more: str) -> None:
    """Write a user as one JSON line."""
    facts = {
        "name": user.name,
        "display_name": user.display_name,
        "roles": sorted(user.roles),
        "ranks": sorted(user.ranks),
        "areas": areas_to(user.areas),
        "enabled": user.enabled,
        "totp": user.totp,
        "one_time": user.one_time,
        "one_time_until": shown_time(user.one_time_until),
        "failed": user.failed,
        "locked_until": shown_time(user.locked_until or None),
        "last_login_at": shown_time(user.last_login_at),
        "created_at": shown_time(user.created_at),
        "version": user.version,
    }
    emit(json.dumps(facts | more, ensure_ascii=False))
