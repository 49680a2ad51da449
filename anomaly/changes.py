"""Changes of thresholds in the registry: proposed, tried on the past, confirmed by somebody else, cancelled.

    proposed ── back-test ──> tested ── confirm ──> confirmed (counts from its date on)
        └──────────────────────┴──── cancel ──────────┴──> cancelled (a confirmed one only before its date)

The live service takes over what is confirmed at its next look at the books (`anomaly.books.with_changes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from anomaly.meters import CLASSES, MEDIA, OTHER_CLASS
from anomaly.stored import city_zone
from anomaly.thresholds import Thresholds, check_values, is_wide
from registry import audit
from registry.models import Installation, Meter, UsagePoint
from registry.models_findings import ThresholdChange
from registry.refusals import RefusedError
from registry.roles import Actor

CHANGE: Final = cast(sa.Table, ThresholdChange.__table__)
OBJECT: Final = "threshold_change"
STATES: Final = ("proposed", "tested", "confirmed", "cancelled")
_WAITING: Final = ("proposed", "tested")


class FloodError(RefusedError):
    """A change that would flag too much of the city; who wants it all the same says the number."""


class StaleChangeError(RefusedError):
    """Somebody else changed it first."""


def propose(
    connection: Connection,
    actor: Actor,
    *,
    thresholds: Thresholds,
    effective: date,
    scope: Mapping[str, str],
    values: Mapping[str, float],
    reason: str,
    now_ms: int,
) -> int:
    """Write a proposal and return its number.

    effective: the local day (in the zone of most usage points) from whose midnight on it counts.
    scope: any of medium, class, meter. Raises: RefusedError naming everything that is wrong.
    """
    problems = [*_scope_problems(connection, scope), *_value_problems(values, thresholds)]
    at = midnight_ms(connection, effective)
    if at <= now_ms:
        problems.append(f"effective: {effective} has begun; thresholds change from a coming day on")
    if problems:
        raise RefusedError("invalid", "; ".join(problems))
    _require_area(connection, actor, scope)
    row = {
        "effective_at": at,
        "author": actor.name,
        "reason": reason,
        "created_at": now_ms,
        "scope": {name: value for name, value in scope.items() if value},
        "values": {name: float(value) for name, value in values.items()},
        "state": "proposed",
        "decided_by": "",
        "note": "",
        "version": 1,
    }
    number = int(connection.execute(sa.insert(CHANGE).values(row).returning(CHANGE.c.id)).scalar_one())
    after = {name: row[name] for name in ("effective_at", "scope", "values")}
    audit.append(connection, actor, f"{OBJECT}.propose", OBJECT, number, at=now_ms, after=after, note=reason)
    return number


def _scope_problems(connection: Connection, scope: Mapping[str, str]) -> list[str]:
    problems = []
    allowed = {"medium": list(MEDIA), "class": [*CLASSES, OTHER_CLASS]}
    for name, words in allowed.items():
        value = scope.get(name, "")
        if value and value not in words:
            problems.append(f"scope.{name} = {value}: allowed: {', '.join(words)}")
    meter = scope.get("meter", "")
    if meter and not connection.execute(sa.select(Meter.id).where(Meter.id == meter)).first():
        problems.append(f"scope.meter = {meter}: there is no such meter")
    return problems


def _value_problems(values: Mapping[str, float], thresholds: Thresholds) -> list[str]:
    problems = check_values(values, thresholds.defaults)
    problems += [
        f"{name} is one for all meters and all dates: set it in the file that anomaly.thresholds names"
        for name in values
        if name in thresholds.defaults and is_wide(name)
    ]
    return problems if values else ["values: name at least one threshold"]


def _require_area(connection: Connection, actor: Actor, scope: Mapping[str, str]) -> None:
    """A change for more than one meter is for somebody who sees the whole city."""
    if actor.areas is None:
        return
    meter = scope.get("meter", "")
    if not meter:
        raise RefusedError("forbidden", "thresholds of more than one meter are changed by somebody for all districts")
    if not actor.sees(district_of(connection, meter)):
        raise RefusedError("unknown", f"there is no meter {meter!r}")


def district_of(connection: Connection, meter: str) -> str:
    """Return the district where a meter hangs now, "" when it hangs nowhere."""
    stay = Installation
    place = sa.select(UsagePoint.district).join(stay, stay.usage_point_id == UsagePoint.id)
    return connection.execute(place.where(stay.meter_id == meter, stay.removed_at.is_(None))).scalar() or ""


def midnight_ms(connection: Connection, day: date) -> int:
    """Return [ms UTC] of local midnight in the zone of most usage points."""
    return round(datetime.combine(day, time(), ZoneInfo(city_zone(connection))).timestamp() * 1000)


def local_day(connection: Connection, at_ms: int) -> date:
    """Return the local day of a moment [ms UTC] in the zone of most usage points."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(city_zone(connection))).date()


# --- decisions ----------------------------------------------------------------------------------------------------


def row_of(connection: Connection, actor: Actor, number: int, *, lock: bool = False) -> dict[str, Any]:
    """Return one change. Raises: RefusedError when there is none, or its meter lies where the actor may not look."""
    statement = sa.select(CHANGE).where(CHANGE.c.id == number)
    row = connection.execute(statement.with_for_update() if lock else statement).mappings().first()
    meter = "" if row is None else str(row["scope"].get("meter", ""))
    if row is None or (meter and not actor.sees(district_of(connection, meter))):
        raise RefusedError("unknown", f"there is no change of thresholds {number}")
    return dict(row)


def begin_test(connection: Connection, actor: Actor, number: int, job: int, *, now_ms: int) -> None:
    """Remember the job that tries the change on the past. Raises: RefusedError when it is decided already."""
    row = row_of(connection, actor, number, lock=True)
    _require_state(row, _WAITING, "tried on the past")
    _save(connection, row, job_id=job)
    audit.append(connection, actor, f"{OBJECT}.backtest", OBJECT, number, at=now_ms, after={"job": job})


def keep_test(connection: Connection, actor: Actor, number: int, result: Mapping[str, Any], *, now_ms: int) -> None:
    """Keep what the past would have looked like with the change. Raises: RefusedError when it is decided already."""
    row = row_of(connection, actor, number, lock=True)
    _require_state(row, _WAITING, "tried on the past")
    _save(connection, row, state="tested", backtest=dict(result))
    after = {name: result[name] for name in ("would_flag", "flagged_now", "meters", "from", "to")}
    audit.append(connection, actor, f"{OBJECT}.tested", OBJECT, number, at=now_ms, after=after)


def confirm(
    connection: Connection,
    actor: Actor,
    number: int,
    *,
    now_ms: int,
    most_share: float,
    accept: int | None = None,
    note: str = "",
    version: int | None = None,
) -> None:
    """Let a tested change count from its date on.

    most_share: of all meters that may have an open alarm with it. accept: the number of meters, said by whoever wants
    it above that share. Raises: RefusedError; FloodError with the number; StaleChangeError.
    """
    row = row_of(connection, actor, number, lock=True)
    _require_version(row, version)
    _require_area(connection, actor, row["scope"])
    if row["author"] == actor.name:
        raise RefusedError("forbidden", "nobody confirms a change that he proposed himself")
    _require_state(row, ("tested",), "confirmed", hint="; try it on the past first" * (row["state"] == "proposed"))
    if row["effective_at"] <= now_ms:
        raise RefusedError("conflict", "its date has passed; propose it again with a coming one")
    accepted = _accepted(row, most_share, accept)
    _save(connection, row, state="confirmed", decided_by=actor.name, decided_at=now_ms, note=note, accepted=accepted)
    after = {"state": "confirmed"} | ({} if accepted is None else {"accepted": accepted})
    audit.append(
        connection, actor, f"{OBJECT}.confirm", OBJECT, number,
        at=now_ms, before={"state": row["state"]}, after=after, note=note,
    )  # fmt: skip


def _accepted(row: Mapping[str, Any], most_share: float, accept: int | None) -> int | None:
    result = row["backtest"]
    would, now, meters = (int(result[name]) for name in ("would_flag", "flagged_now", "meters"))
    if would <= now or would <= most_share * meters:
        return None
    if accept == would:
        return would
    share = f"{would} of {meters} meters ({would / max(meters, 1):.0%}) would have an open alarm; {now} have one now"
    wrong = "" if accept is None else f"; {accept} is not that number"
    raise FloodError(
        "conflict", f"{share}{wrong}. Confirm it with accept_flagged = {would}, or propose another value"
    )


def cancel(
    connection: Connection, actor: Actor, number: int, *, now_ms: int, note: str = "", version: int | None = None
) -> None:
    """Give up a change that waits, or a confirmed one before its date. Raises: RefusedError, StaleChangeError."""
    row = row_of(connection, actor, number, lock=True)
    _require_version(row, version)
    _require_area(connection, actor, row["scope"])
    _require_state(row, (*_WAITING, "confirmed"), "cancelled")
    if row["state"] == "confirmed" and row["effective_at"] <= now_ms:
        raise RefusedError("conflict", "it is in force already; propose a change back instead")
    _save(connection, row, state="cancelled", decided_by=actor.name, decided_at=now_ms, note=note)
    audit.append(
        connection, actor, f"{OBJECT}.cancel", OBJECT, number,
        at=now_ms, before={"state": row["state"]}, after={"state": "cancelled"}, note=note,
    )  # fmt: skip


def _require_state(row: Mapping[str, Any], states: tuple[str, ...], what: str, hint: str = "") -> None:
    if row["state"] not in states:
        raise RefusedError("conflict", f"a change that is {row['state']} cannot be {what}{hint}")


def _require_version(row: Mapping[str, Any], version: int | None) -> None:
    if version is not None and version != row["version"]:
        raise StaleChangeError("conflict", f"it was changed meanwhile: its version is {row['version']}")


def _save(connection: Connection, row: Mapping[str, Any], **values: Any) -> None:
    statement = sa.update(CHANGE).where(CHANGE.c.id == row["id"])
    connection.execute(statement.values(**values, version=row["version"] + 1))
