"""`metergate totals`, `close` and `why`: monthly totals, freezing them, and why one is short."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import typer

from api.billing.calendars import check_period
from api.billing.close import checklist, close_period, find_deltas
from api.billing.compute import Tally
from api.billing.keep import refresh
from api.billing.load import Scope
from api.billing.rows import spoken
from api.billing.why import counts, why
from api.billing.why import spoken as spoken_stretch
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metergate.running import ConfigOption, registry
from metergate.settings import Settings, load_settings
from metergate.stores import make_store
from metering.clock import SystemClock, rfc3339
from metering.errors import SettingsError
from metering.quantities import from_micro
from metering.store import ReadingStore
from registry import billing as books
from registry import billing_close, billing_words
from registry.database import Database
from registry.roles import console

_SHOWN: Final = 20
_PART: Final = 500
PeriodArgument = Annotated[str, typer.Argument(help="Month in which the period ends, such as 2026-03.")]
ClassOption = Annotated[str, typer.Option("--class", help="Only this customer class.")]
MediumOption = Annotated[str, typer.Option("--medium", help="Only this medium.")]
DistrictOption = Annotated[str, typer.Option("--district", help="Only this district.")]


def totals(
    period: PeriodArgument,
    point: Annotated[list[str] | None, typer.Option("--point", help="Only this usage point; repeatable.")] = None,
    state: Annotated[str, typer.Option("--state", help="billed, doubtful, missing or excluded.")] = "",
    customer_class: ClassOption = "",
    medium: MediumOption = "",
    district: DistrictOption = "",
    config: ConfigOption = None,
) -> None:
    """Bring a period's totals up to date and write them, one JSON object a usage point.

    Example: metergate totals 2026-03 --class residential --state missing
    """
    with errors_as_words(), _house(config) as (settings, database, store):
        period = _period(period)
        scope = Scope(customer_class, medium, district, tuple(point) if point else None)
        tally = Tally()
        refresh(database, store, settings.billing, period, scope, now=SystemClock().now_ms(), tally=tally)
        _write_totals(database, period, scope, state)
        said = ", ".join(f"{count} {name}" for name, count in sorted(tally.states.items()))
        say(f"{period}: {said or 'no usage point is due'}")


def _write_totals(database: Database, period: str, scope: Scope, state: str) -> None:
    texts = {"customer_class": scope.customer_class, "medium": scope.medium, "district": scope.district}
    with database.read() as connection:
        rows = iter(books.totals_of(connection, period, {**texts, "state": state}))
        while part := list(islice(rows, _PART)):
            chosen = [row for row in part if scope.points is None or row["usage_point_id"] in scope.points]
            lines = books.lines_of(connection, period, [row["usage_point_id"] for row in chosen])
            for row in chosen:
                emit(json.dumps(spoken(row, lines.get(row["usage_point_id"], [])), ensure_ascii=False))


def close(
    period: PeriodArgument,
    missing: Annotated[int | None, typer.Option(help="Missing usage points that you saw and let be.")] = None,
    doubtful: Annotated[int | None, typer.Option(help="Doubtful ones that you saw.")] = None,
    note: Annotated[str, typer.Option(help="Why the open ones are let be; goes into the audit.")] = "",
    verify: Annotated[bool, typer.Option("--verify", help="Prove that closed totals are unchanged.")] = False,
    deltas: Annotated[bool, typer.Option("--deltas", help="Propose delta lines for what changed since.")] = False,
    customer_class: ClassOption = "",
    medium: MediumOption = "",
    district: DistrictOption = "",
    config: ConfigOption = None,
) -> None:
    """Close a period: without --missing and --doubtful it only shows what is open.

    Example: metergate close 2026-03 --missing 2 --doubtful 0 --note "two flats are empty"
    Example: metergate close 2026-03 --verify
    """
    with errors_as_words(), _house(config) as (settings, database, store):
        period, now = _period(period), SystemClock().now_ms()
        scope = Scope(customer_class, medium, district)
        if verify:
            _verify(database, period)
        elif deltas:
            numbers = set(find_deltas(database, store, settings.billing, period, scope, now=now))
            _write_deltas(database, period, numbers)
        elif missing is None or doubtful is None:
            refresh(database, store, settings.billing, period, scope, now=now)
            _show_open(database, period, scope, now)
        else:
            actor = console(getpass.getuser())
            done = close_period(
                database,
                store,
                settings.billing,
                actor,
                period,
                scope,
                missing=missing,
                doubtful=doubtful,
                now=now,
                note=note,
            )
            emit(json.dumps({**done, "closed_at": rfc3339(done["closed_at"])}, ensure_ascii=False))
            say(f"{period} is closed: {done['totals']} totals, hash {done['hash']}")


def _show_open(database: Database, period: str, scope: Scope, now: int) -> None:
    with database.read() as connection:
        seen = checklist(connection, period, scope, now=now)
    for point, state, cause in seen.open:
        emit(json.dumps({"usage_point_id": point, "state": state, "cause": cause}))
    for earlier, count in seen.earlier:
        say(f"{earlier} is still open at {count} usage points; close it first")
    if seen.not_over:
        say(f"{period} is not over yet at {seen.not_over} usage points")
    found = f"--missing {seen.counts.get('missing', 0)} --doubtful {seen.counts.get('doubtful', 0)}"
    say(f"{sum(seen.counts.values())} totals are open; to close them all: metergate close {period} {found}")


def _verify(database: Database, period: str) -> None:
    with database.read() as connection:
        found = billing_close.closes(connection, period)
        wrong = {close["id"]: billing_close.verify(connection, close["id"]) for close in found}
    for closed in found:
        emit(json.dumps({"close": closed["id"], "hash": closed["hash"], "wrong": wrong[closed["id"]]}))
        for line in wrong[closed["id"]][:_SHOWN]:
            say(line)
    say(f"{period}: {len(found)} verified, {sum(map(bool, wrong.values()))} of them not as closed")
    if any(wrong.values()):
        raise typer.Exit(EXIT_FAILED)


def _write_deltas(database: Database, period: str, numbers: set[int]) -> None:
    with database.read() as connection:
        for delta in billing_words.deltas(connection, period=period):
            if delta["id"] in numbers:
                emit(
                    json.dumps(
                        {
                            "delta": delta["id"],
                            "usage_point_id": delta["usage_point_id"],
                            "period": delta["period"],
                            "in_period": delta["in_period"],
                            "amount": from_micro(delta["amount"]),
                            "cause": delta["cause"],
                            "needs": delta["needs"].split(","),
                        }
                    )
                )
    say(f"{len(numbers)} delta lines proposed")


def why_short(
    name: Annotated[str, typer.Argument(help="Id of a meter or a usage point.", metavar="METER_OR_POINT")],
    period: PeriodArgument,
    config: ConfigOption = None,
) -> None:
    """Tell of every expected reading whether it was received, late, quarantined, waiting or missing, and why.

    Example: metergate why G-0001 2026-03
    """
    with errors_as_words(), _house(config) as (settings, database, store):
        period, now = _period(period), SystemClock().now_ms()
        with database.read() as connection:
            point, bounds, found = why(connection, store, name, period, now=now)
        refresh(database, store, settings.billing, period, Scope(points=(point,)), now=now)
        with database.read() as connection:
            total = books.stored(connection, period, [point]).get(point)
            lines = books.lines_of(connection, period, [point]).get(point, [])
        if total is not None:
            emit(json.dumps(spoken(total, lines), ensure_ascii=False))
        for stretch in found:
            emit(json.dumps(spoken_stretch(stretch)))
        answers = ", ".join(f"{count} {state}" for state, count in counts(found).items() if count)
        for stretch in [each for each in found if each.state != "received"][:_SHOWN]:
            times = f"{rfc3339(stretch.first)} to {rfc3339(stretch.last)}"
            say(f"{stretch.state}, {stretch.count} readings from {times}: {stretch.detail or stretch.cause}")
        say(f"{point}, {rfc3339(bounds.start)} to {rfc3339(bounds.end)}: {answers or 'no meter hung here'}")
        if total is not None:
            say(f"{total['state']} {total['cause']} {total['detail']}".rstrip())


def _period(text: str) -> str:
    try:
        return check_period(text)
    except ValueError as error:
        raise SettingsError(str(error)) from None


@contextmanager
def _house(config: Path | None) -> Iterator[tuple[Settings, Database, ReadingStore]]:
    settings = load_settings(config)
    with registry(settings) as database, closing(make_store(settings.store, "read", SystemClock())) as store:
        yield settings, database, store
