"""The dead man's switch: services of the house that fall silent are told like a finding, and outside a heartbeat.

Inside: ingest and the anomaly services leave a report every few seconds; one that stops is `house.silent`, one that
comes back `house.returned`. Outside: while registry, ingest and rules work, an address gets a POST; when this very
process dies too, whoever watches that address raises the alarm.
"""

from __future__ import annotations

import urllib.request
from typing import Final

from sqlalchemy.engine import Connection

from api.outbound.events import Event
from api.queries.readiness import ANOMALY_PREFIX, READY_PREFIX, Report, reports
from registry import watch
from registry.ledger import get_state, set_state

KEY: Final = "outbound.silent"
_HTTP_S: Final = 10.0
_FORGOTTEN_S: Final = 3600


def look(connection: Connection, *, now_ms: int, stale_s: float) -> tuple[list[Event], list[str]]:
    """Return what changed since the last look, and the services that are silent now, in the caller's transaction."""
    silent, ages = _silent(connection, now_ms, stale_s)
    before = dict(pair.rsplit("=", 1) for pair in (get_state(connection, KEY) or "").split() if "=" in pair)
    events = [
        _event("house.silent", name, now_ms - age_s * 1000, now_ms, f"{name} has not reported for {age_s} s")
        for name, age_s in silent.items()
        if name not in before
    ]
    events += [
        _event("house.returned", name, int(since), now_ms, _why_returned(name, ages.get(name), stale_s))
        for name, since in before.items()
        if name not in silent
    ]
    if events:
        kept = {name: int(before.get(name, now_ms - age_s * 1000)) for name, age_s in silent.items()}
        set_state(connection, KEY, " ".join(f"{name}={since}" for name, since in kept.items()))
    return events, sorted(silent)


def _why_returned(name: str, age_s: int | None, stale_s: float) -> str:
    if age_s is not None and age_s <= stale_s:
        return f"{name} reports again"
    return f"{name} is silent still; others do its work, so it is taken as retired"


def _silent(connection: Connection, now_ms: int, stale_s: float) -> tuple[dict[str, int], dict[str, int]]:
    """Return service -> age of its last report [s], of the silent ones and of all.

    One retired long ago is no fault while others work; an anomaly service whose parts nobody took over is.
    """
    found: dict[str, int] = {}
    ages: dict[str, int] = {}
    for prefix, missed in ((READY_PREFIX, frozenset[str]()), (ANOMALY_PREFIX, watch.holders(connection))):
        said: list[Report] = reports(connection, now_ms, prefix)
        fresh = any(report.age_s <= stale_s for report in said)
        for report in said:
            name = "".join(report.instance.split())
            ages[name] = report.age_s
            if report.age_s > stale_s and (not fresh or report.age_s < _FORGOTTEN_S or report.instance in missed):
                found[name] = report.age_s
    return found, ages


def _event(kind: str, name: str, since_ms: int, now_ms: int, reason: str) -> Event:
    data = {"service": name, "reason": reason}
    return Event(f"{kind}:{name}:{since_ms}", kind, now_ms, "", "urgent", name[:48], "house", name[:64], data)


def beat(url: str) -> None:
    """POST to the address outside; blocks at most 10 s. Raises: OSError."""
    request = urllib.request.Request(url, data=b"", method="POST", headers={"User-Agent": "metergate"})
    with urllib.request.urlopen(request, timeout=_HTTP_S) as answer:  # the pattern lets only http(s) through
        answer.read(1024)
