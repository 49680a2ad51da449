"""The report of a virtual house as a person reads it: truth against stored, found, billed, ordered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_SHOWN: Final = 12
"""Lines of one list; the whole list stands in report.json."""
_INDENT: Final = " " * 10


def words(report: Mapping[str, Any]) -> str:
    """Return the report as text, for a terminal of 120 columns."""
    lines = [
        f"{report['title']}, seed {report['seed']}: {report['meters']:,} meters, {report['days']:.4g} days from "
        f"{report['first_day']} on",
        "",
        *_wire(report["frames"]),
        *_stored(report["stored"]),
        *_found(report["found"]),
        *_billed(report["billed"]),
        *_ordered(report["ordered"]),
        *(f"{'Exports' if n == 0 else '':10}{name}.jsonl sha256 {value}" for n, (name, value) in
          enumerate(report["exports"].items())),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _wire(frames: Mapping[str, int]) -> Iterator[str]:
    yield f"{'Wire':10}{frames['sent']:,} requests sent, {frames['seen']:,} seen by the meters"
    if frames["healthy_planned"]:
        yield (
            f"{_INDENT}where nothing disturbed the line {frames['healthy_planned']:,} were planned, "
            f"{frames['healthy_answered']:,} answered"
        )


def _stored(stored: Mapping[str, int]) -> Iterator[str]:
    yield (
        f"{'Stored':10}{stored['readings']:,} readings of {stored['answers']:,} answers: lost {stored['lost']}, "
        f"invented {stored['invented']}, largest error of a time {stored['worst_ms']} ms"
    )
    if stored["late"]:
        yield (
            f"{_INDENT}{stored['late']:,} answers came behind the gateway's patience; "
            f"{stored['late'] - stored['late_unexplained']:,} of them have their failed read among its events"
        )
    if stored["in_quarantine"]:
        yield f"{_INDENT}{stored['in_quarantine']:,} answers were refused by ingest and lie in quarantine"


def _found(found: Mapping[str, Any]) -> Iterator[str]:
    if not found["events"] and not found["false_alarms"]:
        yield f"{'Found':10}nothing was to be found, and nothing was"
        return
    if not found["events"]:
        yield f"{'Found':10}nothing was to be found; {len(found['false_alarms'])} alarms all the same"
        yield from _alarms(found)
        return
    yield (
        f"{'Found':10}{found['found']} of {found['events']} events (recall {found['recall']:.2f}), precision "
        f"{found['precision']:.2f}; {found['false_per_1000_month']:g} false alarms per 1,000 meters and 30 days"
    )
    yield f"{_INDENT}{'kind':20}{'events':>7}{'found':>7}{'delay [h]':>11}{'wrong':>7}"
    for kind, each in found["kinds"].items():
        delay = "-" if each["delay_h"] is None else f"{each['delay_h']:.0f}"
        yield f"{_INDENT}{kind:20}{each['events']:>7}{each['found']:>7}{delay:>11}{each['false']:>7}"
    yield from _list("missed", [f"{m['meter']} {m['kind']} {m['severity']}: {m['because']}" for m in found["missed"]])
    yield from _alarms(found)


def _alarms(found: Mapping[str, Any]) -> Iterator[str]:
    alarms = [f"{a['meter']} {a['kind']} {a['at'][:10]}: {a['because']}" for a in found["false_alarms"]]
    yield from _list("false", alarms)


def _billed(billed: Mapping[str, Any]) -> Iterator[str]:
    if not billed["period"]:
        return
    states = billed["states"]
    wrong = billed["wrong"]
    truth = "each equal to what went through the meter" if not wrong else f"{len(wrong)} of them wrong"
    yield f"{'Billed':10}{billed['period']}: {states.get('billed', 0):,} totals, {truth}"
    for state in ("doubtful", "missing", "excluded"):
        if states.get(state):
            causes = "; ".join(f"{count} {why}" for why, count in billed["because"][state].items())
            yield f"{_INDENT}{states[state]:,} {state}: {causes}"
    yield from _list("wrong", wrong)
    yield from _list("unnamed", billed["unnamed"])


def _ordered(ordered: Mapping[str, Any]) -> Iterator[str]:
    types = ", ".join(f"{count} {name}" for name, count in ordered["types"].items())
    yield f"{'Ordered':10}{ordered['orders']:,} work orders" + (f": {types}" if types else "")


def _list(title: str, lines: list[str]) -> Iterator[str]:
    for line in lines[:_SHOWN]:
        yield f"{_INDENT}{title:8} {line}"
    if len(lines) > _SHOWN:
        yield f"{_INDENT}{title:8} … and {len(lines) - _SHOWN} more in report.json"
