"""What people read: one event in one line of both languages, several in one message, a flood in a digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.orders.words import CHINESE, OrderType

_PRIORITY_ZH: Final = {"none": "信息", "low": "低", "medium": "中", "high": "高", "urgent": "紧急"}
_EVENT_ZH: Final = {
    "finding.opened": "新异常",
    "finding.reopened": "异常再次出现",
    "finding.cleared": "异常消失",
    "finding.withdrawn": "异常撤销",
    "finding.acknowledged": "已确认",
    "work_order.opened": "新派工单",
    "work_order.dispatched": "已派工",
    "work_order.finished": "派工单完成",
    "work_order.escalated": "派工单催办",
    "house.silent": "系统服务无响应",
    "house.returned": "系统服务恢复",
}
_SHOWN_IN_DIGEST: Final = 20


@dataclass(frozen=True, slots=True)
class Told:
    """An event as a message needs it."""

    kind: str
    at: str
    district: str
    priority: str
    subject: str
    object_kind: str
    object_id: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message for people. rule: name of the rule. step: 0, or which escalation. digest: a flood in figures."""

    rule: str
    step: int
    subject: str
    text: str
    events: Sequence[Told]
    digest: bool


def line(event: Told) -> str:
    """Return one event in one line: what, where, why, in both languages."""
    head = f"[{event.priority} {_PRIORITY_ZH.get(event.priority, '')}] {_words(event.kind)} {event.subject}"
    where = _where(event)
    why = _why(event)
    return f"{head}{f' @ {where}' if where else ''}{f': {why}' if why else ''} ({event.at})"


def message(rule: str, step: int, events: Sequence[Told], *, digest_above: int) -> Message:
    """Make one message of events: themselves, or from `digest_above` on their figures and the first of them."""
    worst = max(events, key=lambda event: list(_PRIORITY_ZH).index(event.priority))
    prefix = f"Escalation {step} 升级: " if step else ""
    digest = len(events) > digest_above
    if len(events) == 1:
        subject = f"{prefix}{worst.priority} {_words(worst.kind)} {worst.subject} {_where(worst)}".strip()
        text = line(worst)
    else:
        subject = f"{prefix}{len(events)} events 条, up to {worst.priority} {_PRIORITY_ZH[worst.priority]}"
        text = _digest(events) if digest else "\n".join(line(event) for event in events)
    if step:
        text = f"Not acknowledged so far 尚未确认:\n{text}"
    return Message(rule, step, plain(subject)[:200], text, events, digest)


def plain(text: str) -> str:
    """Return text in one line, without anything that controls: it may stand in a header."""
    return "".join(c if c.isprintable() else " " for c in text)


def _digest(events: Sequence[Told]) -> str:
    counts = Counter((event.kind, event.subject, event.district) for event in events)
    lines = [
        f"{number} × {_words(kind)} {subject}{f' @ {district}' if district else ''}"
        for (kind, subject, district), number in counts.most_common(_SHOWN_IN_DIGEST)
    ]
    if len(counts) > _SHOWN_IN_DIGEST:
        lines.append(f"… and {len(counts) - _SHOWN_IN_DIGEST} more sorts 另有 {len(counts) - _SHOWN_IN_DIGEST} 类")
    urgent = [line(event) for event in events if event.priority == "urgent"][:_SHOWN_IN_DIGEST]
    return "\n".join([*lines, *(["", *urgent] if urgent else [])])


def _words(kind: str) -> str:
    chinese = _EVENT_ZH.get(kind)
    english = kind.replace(".", " ").replace("_", " ")
    return f"{english} {chinese}" if chinese else english


def _where(event: Told) -> str:
    data = event.data
    place = data.get("place") or data.get("usage_point") or data.get("gateway") or data.get("service") or ""
    parts = [str(place), str(data.get("meter") or ""), event.district]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def _why(event: Told) -> str:
    data = event.data
    if event.kind == "finding.withdrawn":
        people = ", ".join(data.get("people", ()))
        acted = f"; known to 处理人: {people}" if people else ""
        return f"withdrawn 撤销原因: {data.get('why', '')}{acted}"
    if event.object_kind == "work_order":
        order_type = str(data.get("type", ""))
        chinese = CHINESE[OrderType(order_type)] if order_type in set(OrderType) else ""
        words = [f"No. {event.object_id} {chinese}", data.get("reason_en"), data.get("reason_zh"), data.get("note")]
    elif event.object_kind == "finding":
        words = [data.get("sentence_en"), data.get("sentence_zh"), data.get("note")]
    else:
        words = [data.get("reason")]
    return " | ".join(plain(str(word)) for word in words if word)
