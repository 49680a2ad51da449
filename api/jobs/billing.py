"""Billing as background jobs: compute a period again, close it, find deltas, prove a close, write files.

Whatever changes more than totals (which any later computation makes anew) is one transaction with the job's own
outcome: a process that dies on any line leaves the period open and the job interrupted, or both done.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas
from api.billing import export, rates, report
from api.billing.close import check_closer, delta_blocks, freeze_period
from api.billing.compute import Tally
from api.billing.keep import refresh_blocks
from api.billing.lists import Filters, chosen
from api.billing.load import Scope
from api.billing.reconcile import passes
from api.billing.reconcile_words import Scope as Compared
from api.jobs.words import Work
from registry import billing_close
from registry.models import UsagePoint
from registry.models_billing import BillingTotal

CLOSE: Final = "billing.close"
REFRESH: Final = "billing.refresh"
DELTAS: Final = "billing.deltas"
VERIFY: Final = "billing.verify"
EXPORT: Final = "billing.export"
REPORT: Final = "billing.report"
RECONCILE: Final = "billing.reconcile"
_SHOWN: Final = 20
_BEFORE_FREEZE: Final = 90


def refresh_job(job: Work) -> dict[str, Any]:
    """Compute the totals of a period and scope again. args: period, customer_class, medium, district."""
    changed, tally = _refresh(job, 100)
    return {"changed": changed, **tally.states}


def close_job(job: Work) -> dict[str, Any]:
    """Close a period 结账. args: those of a refresh, missing, doubtful, note. All of it, or nothing."""
    args, scope = job.args, _scope(job)
    check_closer(job.actor, scope)
    _refresh(job, _BEFORE_FREEZE)
    job.progress(_BEFORE_FREEZE, "")
    outcome: dict[str, Any] = {}

    def also(connection: Connection, closed: dict[str, Any]) -> None:
        outcome.update({"close": closed["id"], "totals": closed["totals"], "hash": closed["hash"]})
        job.settle(connection, outcome)

    freeze_period(
        job.database,
        job.actor,
        args["period"],
        scope,
        missing=args["missing"],
        doubtful=args["doubtful"],
        now=job.now_ms,
        note=args["note"],
        also=also,
    )
    return outcome


def deltas_job(job: Work) -> dict[str, Any]:
    """Find what changed behind a closed period 补差. args: those of a refresh. Each block stands for itself."""
    period, scope, found, seen = job.args["period"], _scope(job), 0, 0
    many = _points(job, scope)
    block = job.materials.billing.block
    for numbers in delta_blocks(job.database, job.store, job.materials.billing, period, scope, now=job.now_ms):
        found, seen = found + len(numbers), min(seen + block, many)
        _say(job, seen, many)
    return {"deltas": found}


def verify_job(job: Work) -> dict[str, Any]:
    """Prove a close byte by byte. args: close."""
    with job.database.read() as connection:
        wrong = billing_close.verify(connection, job.args["close"])
    return {"close": job.args["close"], "unchanged": not wrong, "wrong": wrong[:_SHOWN]}


def export_job(job: Work) -> dict[str, Any]:
    """Write totals as a file. args: format, and the filters of a list of totals."""
    kind, filters, areas = job.args["format"], Filters(**job.args["filters"]), job.actor.areas
    with job.database.read() as connection:
        export.check(connection, kind, areas, filters)
        many = _stored(connection, areas, filters)
    writer = export.encoder(kind, now=job.now_ms)
    with job.result.open("wb") as file:
        for number, piece in enumerate(export.pieces(job.database, areas, filters, writer), 1):
            file.write(piece)
            _say(job, min(number * export.PAGE, many), many)
    job.named = f"totals-{filters.period or 'all'}.{writer.ending}", writer.media_type
    return {"totals": many}


def report_job(job: Work) -> dict[str, Any]:
    """Write the monthly reading report 抄表月报. args: period, format (csv, html)."""
    period, areas, settings = job.args["period"], job.actor.areas, job.materials.billing
    with job.database.read() as connection:
        adjusted = report.adjusted_points(connection, period)
        lasting = report.lasting_exceptions(connection, areas, period)
        many = _stored(connection, areas, Filters(period=period))
    groups: defaultdict[report.Group, rates.Sum] = defaultdict(rates.new_sum)
    total, seen = rates.new_sum(), 0
    for page in rates.visits(job.database, job.store, settings, period, areas):
        for visit in page:
            for found in (groups[rates.group_of(visit, "class")], total):
                found.add(visit, corrected=visit.usage_point in adjusted)
        seen = min(seen + export.PAGE, many)
        _say(job, seen, many)
    made = report.report(settings, period, groups, total, lasting, now=job.now_ms)
    if job.args["format"] == "csv":
        job.result.write_bytes(report.report_csv(made))
        job.named = f"reading-report-{period}.csv", "text/csv"
    else:
        job.result.write_text(report.report_html(made), "utf-8")
        job.named = f"reading-report-{period}.html", "text/html"
    return {"due": made.total.due, "read": made.total.read, "rate": made.total.rate}


def reconcile_job(job: Work) -> dict[str, Any]:
    """Compare readings with purchases, SCADA or parent meters. args: kind, period, district."""
    scope, counts = Compared(job.args["district"]), dict[str, int]()
    settings, period = job.materials.billing, job.args["period"]
    steps = passes(job.database, job.store, settings, job.actor, job.args["kind"], period, scope, now=job.now_ms)
    for found in steps:
        counts = found
        job.progress(50, str(sum(counts.values())))
    return dict(counts)


def _scope(job: Work) -> Scope:
    return Scope(*(job.args[name] for name in ("customer_class", "medium", "district")))


def _refresh(job: Work, upto: int) -> tuple[int, Tally]:
    """Bring totals up to date, until `upto` percent of the job."""
    settings, scope, tally, changed = job.materials.billing, _scope(job), Tally(), 0
    many = _points(job, scope)
    blocks = refresh_blocks(job.database, job.store, settings, job.args["period"], scope, now=job.now_ms, tally=tally)
    for number, count in enumerate(blocks, 1):
        changed += count
        _say(job, min(number * settings.block, many), many, upto)
    return changed, tally


def _points(job: Work, scope: Scope) -> int:
    """How many usage points a scope has, as a measure of the way."""
    place = UsagePoint.__table__
    wanted = sa.select(sa.func.count()).select_from(place)
    for column in ("customer_class", "medium", "district"):
        if text := getattr(scope, column):
            wanted = wanted.where(place.c[column] == text)
    with job.database.read() as connection:
        return int(connection.execute(wanted).scalar_one())


def _stored(connection: Connection, areas: Areas, filters: Filters) -> int:
    wanted = sa.select(sa.func.count()).select_from(BillingTotal).where(chosen(areas, filters))
    return int(connection.execute(wanted).scalar_one())


def _say(job: Work, seen: int, many: int, upto: int = 100) -> None:
    job.progress(upto * seen // max(1, many), f"{seen} / {many}")
