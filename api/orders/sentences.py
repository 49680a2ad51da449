"""Why somebody is sent, in one sentence of each language, from the numbers that prove a finding.

The numbers are those that the rules put into a finding's evidence (`anomaly.rules`); one that is missing leaves its
part of the sentence out. Volumes are [m³], electricity [kWh].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from metering.clock import rfc3339

Numbers = Mapping[str, Any]
Sentence = Callable[[Numbers, str], tuple[str, str]]


def sentences(kind: str, evidence: Numbers, *, medium: str, started_at: int) -> tuple[str, str]:
    """Return (English, 中文). started_at: [ms UTC]; medium decides the unit. Unknown kinds get a plain sentence."""
    unit = "kWh" if medium == "electricity" else "m³"
    make = _BY_KIND.get(kind)
    english, chinese = make(evidence, unit) if make else (kind.replace("_", " "), kind)
    since = rfc3339(started_at)[:16].replace("T", " ")
    return f"{english}; since {since} UTC", f"{chinese}；自 {since} UTC 起"


def _number(evidence: Numbers, name: str) -> str | None:
    """Return a number with three significant digits, None when the evidence does not have it."""
    value = evidence.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return f"{value:.3g}"


def _with(evidence: Numbers, name: str, english: str, chinese: str) -> tuple[str, str]:
    value = _number(evidence, name)
    return ("", "") if value is None else (english.format(value), chinese.format(value))


def _joined(head: tuple[str, str], *tails: tuple[str, str]) -> tuple[str, str]:
    english = ", ".join([head[0], *(tail[0] for tail in tails if tail[0])])
    return english, "，".join([head[1], *(tail[1] for tail in tails if tail[1])])


def _leak(evidence: Numbers, unit: str) -> tuple[str, str]:
    rate = _with(evidence, "rate_per_h", f"{{}} {unit}/h", f"{{}} {unit}/h")
    days = _with(evidence, "days_without_still_window", "{} days without a still hour", "{} 天无静止时段")
    burst = _with(evidence, "held_per_h", f"never below {{}} {unit}/h for hours", f"数小时内不低于 {{}} {unit}/h")
    return _joined(("flow that does not stop", "持续流量，疑似泄漏"), rate, burst, days)


def _reverse(evidence: Numbers, unit: str) -> tuple[str, str]:
    return _joined(
        ("the index runs backwards", "表底数倒走"), _with(evidence, "fell_by", f"by {{}} {unit}", f"共 {{}} {unit}")
    )


def _zero(evidence: Numbers, _unit: str) -> tuple[str, str]:
    return _joined(("no consumption", "无用量"), _with(evidence, "days_at_rest", "for {} days", "已 {} 天"))


def _stuck(evidence: Numbers, _unit: str) -> tuple[str, str]:
    return _joined(
        ("the index stands still where there is use", "有用气但表底数不走"),
        _with(evidence, "days_at_rest", "for {} days", "已 {} 天"),
    )


def _high(evidence: Numbers, unit: str) -> tuple[str, str]:
    month = _with(evidence, "used_30_d", f"{{}} {unit} in 30 days", f"30 天 {{}} {unit}")
    ratio = _with(evidence, "ratio", "{} times the usual", "为平时的 {} 倍")
    return _joined(("consumption far above the usual", "用量异常偏大"), month, ratio)


def _silent(evidence: Numbers, _unit: str) -> tuple[str, str]:
    hours = _with(evidence, "silent_h", "for {} h", "已 {} 小时")
    meters = _with(evidence, "meters", "{} meters", "{} 块表")
    return _joined(("no readings arrive", "无抄表数据"), meters, hours)


def _plain(english: str, chinese: str) -> Sentence:
    return lambda _evidence, _unit: (english, chinese)


_BY_KIND: Final[dict[str, Sentence]] = {
    "leak": _leak,
    "leak_intermittent": _leak,
    "reverse_flow": _reverse,
    "zero_use": _zero,
    "info_long_zero": _zero,
    "stuck": _stuck,
    "high_use": _high,
    "info_month_over": _high,
    "comms_loss": _silent,
    "info_outage": _silent,
    "tamper": _plain("signs of tampering", "疑似私拆、改装"),
    "unauthorised": _plain("use on a meter that is not in service", "未开通表具用气"),
    "drift": _plain("the meter seems to run slow or fast", "表具疑似走慢或走快"),
    "spike": _plain("one implausible jump of the index", "表底数异常跳变"),
    "unit_error": _plain("the index changed by a power of ten", "表底数单位或小数位错误"),
    "info_low_battery": _plain("the meter reports a low battery", "表具电量低"),
    "info_valve": _plain("the meter reports a closed valve", "表具阀门关闭"),
}
