"""`metergate thresholds`: what the rules judge by, and changing it: propose, try on the past, confirm, cancel."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import date
from typing import Annotated

import typer
from sqlalchemy.engine import Connection

from anomaly import changes
from anomaly.change_trial import MOST_METERS, try_change
from anomaly.stored import city_zone
from anomaly.thresholds import load_thresholds
from api import thresholds as periods
from api.queries import thresholds as queries
from metergate.administration import Desk, desk
from metergate.console import emit, say
from metergate.running import ConfigOption
from metergate.stores import make_store
from metering.clock import SystemClock
from metering.errors import SettingsError
from registry.books import moment

thresholds_app = typer.Typer(no_args_is_help=True, help="Thresholds of the rules 阈值: list, propose, try, confirm.")

NumberArgument = Annotated[int, typer.Argument(min=1, help="The change's id.")]
MediumOption = Annotated[str, typer.Option(help="gas, water or electricity.")]
ClassOption = Annotated[str, typer.Option("--class", help="Class of customers, such as restaurant.")]
MeterOption = Annotated[str, typer.Option(help="One meter.")]
NoteOption = Annotated[str, typer.Option(help="Why; it stays with the change.")]


@thresholds_app.command("list")
def list_(
    on: Annotated[str, typer.Option(help="A local day; left out: today.")] = "",
    medium: MediumOption = "",
    customer_class: ClassOption = "",
    meter: MeterOption = "",
    changed: Annotated[bool, typer.Option("--changes", help="List the changes instead, newest first.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print every threshold of a day as JSON lines, each with where it comes from.

    Example: metergate thresholds list --class restaurant --on 2026-04-01
    """
    with desk(config, changes=False) as at_desk, at_desk.database.read() as connection:
        if changed:
            page = queries.list_changes(
                connection, at_desk.actor, state=None, before=None, limit=1000, now_ms=at_desk.at
            )
            for change in page.items:
                emit(change.model_dump_json())
            return
        found = queries.in_force(
            connection, at_desk.actor, load_thresholds(at_desk.settings.anomaly.thresholds),
            day=_day("--on", on) if on else None, medium=medium, customer_class=customer_class, meter=meter,
            now_ms=at_desk.at,
        )  # fmt: skip
        for item in found.items:
            emit(item.model_dump_json())


@thresholds_app.command("propose")
def propose(
    values: Annotated[list[str], typer.Argument(help='"rule.threshold=value", several of them.')],
    effective: Annotated[str, typer.Option("--from", help="Local day from whose midnight on it counts.")],
    reason: Annotated[str, typer.Option(help="Why; needed.")],
    medium: MediumOption = "",
    customer_class: ClassOption = "",
    meter: MeterOption = "",
    config: ConfigOption = None,
) -> None:
    """Propose a change; it counts once it was tried on the past and somebody else has confirmed it.

    Example: metergate thresholds propose zero_use.min_days=10 --class restaurant --from 2026-04-01 --reason "spring"
    """
    _check_text("--reason", reason, most=500)
    if not reason:
        raise typer.BadParameter("--reason: say why")
    scope = {"medium": medium, "class": customer_class, "meter": meter}
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        number = changes.propose(
            connection, at_desk.actor, thresholds=load_thresholds(at_desk.settings.anomaly.thresholds),
            effective=_day("--from", effective), scope={name: word for name, word in scope.items() if word},
            values=dict(_pair(text) for text in values), reason=reason, now_ms=at_desk.at,
        )  # fmt: skip
        _show(connection, at_desk, number)


@thresholds_app.command("backtest")
def backtest(
    number: NumberArgument,
    since: Annotated[str, typer.Option("--from", help="First day that counts; left out: 30 days ago.")] = "",
    until: Annotated[str, typer.Option("--to", help="First day that counts no more; left out: now.")] = "",
    most_meters: Annotated[int, typer.Option(min=10, max=20_000, help="Most meters that are tried.")] = MOST_METERS,
    config: ConfigOption = None,
) -> None:
    """Try a change on what is stored, here and now; what it finds is kept with the change.

    Example: metergate thresholds backtest 3 --from 2026-02-01 --to 2026-03-01
    """
    with desk(config, changes=True) as at_desk:
        settings, database = at_desk.settings, at_desk.database
        with database.read() as connection:
            change = changes.row_of(connection, at_desk.actor, number)
            zone = city_zone(connection)
        t0, t1 = periods.period(at_desk.at, _moment("--from", since, zone), _moment("--to", until, zone))
        if not t0 < t1 <= at_desk.at:
            raise SettingsError("--from and --to: the period must have a length and end before now")
        with closing(make_store(settings.store, "read", SystemClock())) as store:
            result = try_change(
                database, store, change, base=load_thresholds(settings.anomaly.thresholds), t0=t0, t1=t1,
                most_meters=most_meters, progress=_Progress(),
            )  # fmt: skip
        with database.begin() as connection:
            changes.keep_test(connection, at_desk.actor, number, result, now_ms=SystemClock().now_ms())
        emit(json.dumps(result, ensure_ascii=False))


@thresholds_app.command("confirm")
def confirm(
    number: NumberArgument,
    accept_flagged: Annotated[
        int | None, typer.Option(min=0, help="would_flag of the back-test, to say that so many are meant.")
    ] = None,
    note: NoteOption = "",
    config: ConfigOption = None,
) -> None:
    """Let a change that somebody else proposed count from its date on.

    Example: metergate thresholds confirm 3 --note "as agreed on Monday"
    """
    _check_text("--note", note, most=500)
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        changes.confirm(
            connection, at_desk.actor, number, now_ms=at_desk.at,
            most_share=at_desk.settings.alarms.most_flagged_share, accept=accept_flagged, note=note,
        )  # fmt: skip
        _show(connection, at_desk, number)


@thresholds_app.command("cancel")
def cancel(number: NumberArgument, note: NoteOption = "", config: ConfigOption = None) -> None:
    """Give up a change that waits, or a confirmed one before its date.

    Example: metergate thresholds cancel 3 --note "summer is late"
    """
    _check_text("--note", note, most=500)
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        changes.cancel(connection, at_desk.actor, number, now_ms=at_desk.at, note=note)
        _show(connection, at_desk, number)


def _show(connection: Connection, at_desk: Desk, number: int) -> None:
    emit(queries.one_change(connection, at_desk.actor, number, now_ms=at_desk.at).model_dump_json())


class _Progress:
    """Tells a person each tenth of the way."""

    def __init__(self) -> None:
        self._said = 0

    def __call__(self, percent: int, text: str) -> None:
        if percent >= self._said:
            say(f"{percent} %: {text}")
            self._said = percent + 10


def _pair(text: str) -> tuple[str, float]:
    name, sign, value = text.partition("=")
    try:
        return name.strip(), float(value if sign else "")
    except ValueError as error:
        raise SettingsError(f'{text}: write "rule.threshold=number"') from error


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: write a date such as 2026-04-01") from error


def _moment(option: str, text: str, zone: str) -> int | None:
    try:
        return moment(text.replace("Z", "+00:00"), zone) if text else None
    except ValueError as error:
        raise SettingsError(f"{option} {text}: write a date such as 2026-01-01 or a time with offset") from error


def _check_text(option: str, text: str, *, most: int) -> None:
    if len(text) > most or not text.isprintable():
        raise typer.BadParameter(f"{option}: at most {most} characters, no control characters")
