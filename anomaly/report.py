"""The back-test as one HTML page: tables and inline SVG, nothing is loaded from anywhere."""

from __future__ import annotations

from html import escape
from typing import Final

from anomaly.backtest import Trial, flips
from anomaly.scoring import Score

_STYLE: Final = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;color:#1b1f24}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
td,th{border:1px solid #d0d7de;padding:.25rem .6rem;text-align:right}
th:first-child,td:first-child{text-align:left}
svg text{font:11px system-ui,sans-serif}
summary{cursor:pointer}
"""
_MOST_ROWS: Final = 200


def page(trials: list[Trial], *, title: str) -> str:
    """HTML of a back-test; the first trial is the base that the others are held against."""
    parts = [f"<h1>{escape(title)}</h1>", _overview(trials), _alarm_chart(trials)]
    parts += [_trial(trial, trials[0]) for trial in trials]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _overview(trials: list[Trial]) -> str:
    head = "<tr><th>trial</th><th>alarms</th><th>recall</th><th>precision</th><th>micro F1</th><th>macro F1</th>"
    head += "<th>false alarms per 1,000 meters and 30 days</th></tr>"
    rows = []
    for trial in trials:
        cells = [escape(trial.name), str(sum(trial.alarms.values()))]
        s = trial.score
        cells += (
            [
                f"{s.recall:.3f}",
                f"{s.precision:.3f}",
                f"{s.micro_f1:.3f}",
                f"{s.macro_f1:.3f}",
                f"{s.false_per_1000:.1f}",
            ]
            if s
            else ["no labels"] * 5
        )
        rows.append(_row(cells))
    return f"<h2>Trials</h2><table>{head}{''.join(rows)}</table>"


def _row(cells: list[str]) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _alarm_chart(trials: list[Trial]) -> str:
    rules = sorted({rule for trial in trials for rule in trial.per_1000})
    bars = [(rule, [trial.per_1000.get(rule, 0.0) for trial in trials[:8]]) for rule in rules]
    return "<h2>Alarms per 1,000 meters and 30 days, by rule</h2>" + bar_chart(
        bars, legend=[trial.name for trial in trials[:8]]
    )


def bar_chart(bars: list[tuple[str, list[float]]], *, legend: list[str] | None = None, unit: str = "") -> str:
    """Horizontal bars as SVG, one group per label."""
    colours = ("#0969da", "#bf8700", "#1a7f37", "#cf222e", "#8250df", "#57606a", "#0a7ea4", "#953800")
    top = max((value for _, values in bars for value in values), default=0.0) or 1.0
    lines, y = [], 4
    for label, values in bars:
        lines.append(f'<text x="150" y="{y + 11}" text-anchor="end">{escape(label)}</text>')
        for i, value in enumerate(values):
            width = 480 * value / top
            lines.append(f'<rect x="156" y="{y}" width="{width:.1f}" height="12" fill="{colours[i % 8]}"></rect>')
            lines.append(f'<text x="{162 + width:.1f}" y="{y + 10}">{value:.3g}{escape(unit)}</text>')
            y += 14
        y += 6
    for i, name in enumerate(legend or []):
        lines.append(f'<rect x="156" y="{y}" width="10" height="10" fill="{colours[i % 8]}"></rect>')
        lines.append(f'<text x="172" y="{y + 9}">{escape(name)}</text>')
        y += 16
    return f'<svg role="img" width="760" height="{y + 4}" viewBox="0 0 760 {y + 4}">{"".join(lines)}</svg>'


def _trial(trial: Trial, base: Trial) -> str:
    parts = [f"<h2>{escape(trial.name)}</h2>"]
    if trial.score is not None:
        parts += [_kinds(trial.score), _recall_chart(trial.score), _delays(trial.score), _false(trial.score)]
    if trial is not base:
        new, gone = flips(base, trial)
        parts.append(_flips("flagged now, not with the defaults", new))
        parts.append(_flips("flagged with the defaults, not now", gone))
    return "\n".join(parts)


def _kinds(s: Score) -> str:
    head = "<tr><th>kind</th><th>events</th><th>recall</th><th>precision</th><th>F1</th><th>median delay [h]</th>"
    head += "<th>false per 1,000 and 30 d</th><th>by severity</th></tr>"
    rows = [
        _row(
            [
                escape(kind),
                str(k.events),
                f"{k.recall:.3f}",
                f"{k.precision:.3f}",
                f"{k.f1:.3f}",
                "" if k.delay_h is None else f"{k.delay_h:.1f}",
                f"{k.false_per_1000:.1f}",
                escape(", ".join(f"{name} {a}/{b}" for name, (a, b) in k.by_severity.items())),
            ]
        )
        for kind, k in s.kinds.items()
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _recall_chart(s: Score) -> str:
    return "<h3>Recall and precision by kind</h3>" + bar_chart(
        [(kind, [k.recall, k.precision]) for kind, k in s.kinds.items()], legend=["recall", "precision"]
    )


def _delays(s: Score) -> str:
    bars = [(kind, [k.delay_h]) for kind, k in s.kinds.items() if k.delay_h is not None]
    return "<h3>Median delay</h3>" + bar_chart(bars, unit=" h")


def _false(s: Score) -> str:
    rows = [_row([escape(meter), escape(kind), escape(why)]) for meter, kind, _, why in s.false_alarms[:_MOST_ROWS]]
    missed = [_row([escape(e.meter), escape(e.kind), escape(e.severity)]) for e in s.missed[:_MOST_ROWS]]
    return (
        f"<details><summary>{len(s.false_alarms)} false alarms</summary><table>"
        f"<tr><th>meter</th><th>kind</th><th>situation</th></tr>{''.join(rows)}</table></details>"
        f"<details><summary>{len(s.missed)} missed events</summary><table>"
        f"<tr><th>meter</th><th>kind</th><th>severity</th></tr>{''.join(missed)}</table></details>"
    )


def _flips(title: str, pairs: list[tuple[str, str]]) -> str:
    rows = [_row([escape(meter), escape(kind)]) for meter, kind in pairs[:_MOST_ROWS]]
    more = f"<p>… and {len(pairs) - _MOST_ROWS} more</p>" if len(pairs) > _MOST_ROWS else ""
    return f"<details><summary>{len(pairs)} {escape(title)}</summary><table>{''.join(rows)}</table>{more}</details>"
