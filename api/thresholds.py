"""Back-tests of changes of thresholds as jobs of the API."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.engine import Connection

from anomaly import changes
from anomaly.change_trial import DEFAULT_DAYS, MOST_METERS, try_change
from anomaly.days import DAY_S
from anomaly.thresholds import load_thresholds
from api.jobs import book
from api.jobs.settings import JobSettings
from api.jobs.words import Work
from registry.roles import Actor

KIND = "thresholds.backtest"


def period(now_ms: int, t0: int | None, t1: int | None) -> tuple[int, int]:
    """Return the period to try, by default the last 30 days [ms UTC]."""
    end = now_ms if t1 is None else t1
    return (end - DEFAULT_DAYS * DAY_S * 1000 if t0 is None else t0), end


def submit_backtest(
    connection: Connection,
    actor: Actor,
    number: int,
    *,
    t0: int,
    t1: int,
    most_meters: int = MOST_METERS,
    now_ms: int,
    settings: JobSettings,
) -> int:
    """Queue the back-test of a change on t0 <= time < t1 [ms UTC] and return its job. Raises: RefusedError."""
    args = {"change": number, "t0": t0, "t1": t1, "most_meters": most_meters}
    changes.row_of(connection, actor, number)
    title = f"back-test of the change of thresholds {number}"
    job = book.submit(connection, actor, KIND, args, title=title, now_ms=now_ms, settings=settings)
    changes.begin_test(connection, actor, number, job, now_ms=now_ms)
    return job


def backtest_job(job: Work) -> dict[str, Any]:
    """Try one change on the past, keep the result with it, and offer all of it as JSON."""
    number = int(job.args["change"])
    with job.database.read() as connection:
        change = changes.row_of(connection, job.actor, number)
    result = try_change(
        job.database,
        job.store,
        change,
        base=load_thresholds(job.materials.thresholds),
        t0=int(job.args["t0"]),
        t1=int(job.args["t1"]),
        most_meters=int(job.args.get("most_meters", MOST_METERS)),
        progress=job.progress,
    )
    job.result.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    job.named = f"threshold-change-{number}.json", "application/json"
    with job.database.begin() as connection:
        changes.keep_test(connection, job.actor, number, result | {"job": job.number}, now_ms=job.now_ms)
    return {"change": number, **{name: result[name] for name in ("would_flag", "flagged_now", "meters")}}
