"""`metergate reconcile`: prepaid meters, SCADA and parent meters held against what the meters counted."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer

from api.billing.calendars import check_period
from api.billing.reconcile import ask_for_exchanges, reconcile, results, spoken
from api.billing.reconcile_words import KINDS, Kind, Scope
from metergate.console import emit, errors_as_words, say
from metergate.operators import operator
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metergate.stores import make_store
from metering.clock import SystemClock
from metering.errors import SettingsError
from registry.database import Database
from registry.roles import console

_PAGE: Final = 1000
reconcile_app = typer.Typer(no_args_is_help=True, help="Hold what meters counted against what others say.")
PeriodArgument = Annotated[str, typer.Argument(help="Month in which the period ends, such as 2026-03.")]
DistrictOption = Annotated[str, typer.Option("--district", help="Only this district.")]
PointOption = Annotated[list[str] | None, typer.Option("--point", help="Only this usage point; repeatable.")]
VerdictOption = Annotated[str, typer.Option("--verdict", help="Show only these, such as not_knowable.")]


@reconcile_app.command("prepaid")
def prepaid(
    period: PeriodArgument,
    district: DistrictOption = "",
    point: PointOption = None,
    verdict: VerdictOption = "",
    order_exchanges: Annotated[
        bool, typer.Option("--order-exchanges", help="Open an urgent meter exchange for each that disagrees.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Prepaid meters: bought = used + left. Purchases come by `metergate import purchases`.

    Example: metergate reconcile prepaid 2026-03 --verdict mismatch --order-exchanges
    """
    _run("prepaid", period, district, point, verdict, config, order_exchanges=order_exchanges)


@reconcile_app.command("scada")
def scada(
    period: PeriodArgument,
    district: DistrictOption = "",
    point: PointOption = None,
    verdict: VerdictOption = "",
    config: ConfigOption = None,
) -> None:
    """Industrial customers against SCADA totals, which come by `metergate import scada`.

    Example: metergate reconcile scada 2026-03 --verdict look
    """
    _run("scada", period, district, point, verdict, config)


@reconcile_app.command("parent")
def parent(
    period: PeriodArgument,
    district: DistrictOption = "",
    point: PointOption = None,
    verdict: VerdictOption = "",
    config: ConfigOption = None,
) -> None:
    """Parent meters against the sum of their children, which come by `metergate import parents`.

    Example: metergate reconcile parent 2026-03 --verdict loss
    """
    _run("parent", period, district, point, verdict, config)


def _run(
    kind: Kind,
    period: str,
    district: str,
    points: list[str] | None,
    verdict: str,
    config: Path | None,
    *,
    order_exchanges: bool = False,
) -> None:
    assert kind in KINDS
    with errors_as_words():
        try:
            period = check_period(period)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        settings, now = load_settings(config), SystemClock().now_ms()
        scope = Scope(district, tuple(points) if points else None)
        with registry(settings) as database, closing(make_store(settings.store, "read", SystemClock())) as store:
            actor = console(operator())
            counts = reconcile(database, store, settings.billing, actor, kind, period, scope, now=now)
            if order_exchanges:
                with database.begin() as connection:
                    opened = ask_for_exchanges(
                        connection, actor, period, settings.billing.reconciliation,
                        calendar=settings.orders.calendar(), now=now, district=district, points=scope.points,
                    )  # fmt: skip
                say(f"{len(opened)} meter exchanges are asked for")
            _show(database, kind, period, scope, verdict)
            said = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
            say(f"{kind} {period}: {said or 'nothing to compare'}")


def _show(database: Database, kind: Kind, period: str, scope: Scope, verdict: str) -> None:
    after = ""
    while True:
        with database.read() as connection:
            rows = results(
                connection, kind, period, verdict=verdict, district=scope.district, points=scope.points, after=after,
                limit=_PAGE,
            )  # fmt: skip
        for row in rows:
            emit(json.dumps(spoken(row), ensure_ascii=False))
        if len(rows) < _PAGE:
            return
        after = rows[-1]["usage_point_id"]
