"""Payloads: our own form, and those of others. One event or one message in, the text of a body out.

metergate: the form that Standard Webhooks recommends: {"type", "timestamp", "data"}.
wecom: a WeCom 企业微信 group robot, markdown. Source: developer.work.weixin.qq.com/document/path/91770.
odoo, atlas, maximo: fields of their maintenance requests and work orders, after their public documentation
(Odoo 17 model maintenance.request by an automation's webhook; Atlas CMMS REST POST /work-orders; Maximo Manage
object structure MXAPIWODETAIL over OSLC). NOT checked against a running system of any of the three.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from api.outbound.http import Answer
from api.outbound.texts import Message, Told, line

Template = Literal["metergate", "wecom", "odoo", "atlas", "maximo"]
TEMPLATES: Final = ("metergate", "wecom", "odoo", "atlas", "maximo")
_WECOM_BYTES: Final = 4096
_MOST_ITEMS: Final = 100
_ODOO: Final = {"none": "0", "low": "0", "medium": "1", "high": "2", "urgent": "3"}
_ATLAS: Final = {"none": "NONE", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "urgent": "HIGH"}
_MAXIMO: Final = {"none": 5, "low": 4, "medium": 3, "high": 2, "urgent": 1}


def of_event(template: str, event: Told) -> str:
    """Return the body for one event."""
    if template == "metergate":
        return _json({"type": event.kind, "timestamp": event.at, "data": dict(event.data)})
    if template == "wecom":
        return _wecom("Metergate", line(event))
    return _json(_foreign(template, event, line(event)))


def of_message(template: str, message: Message, at: str) -> str:
    """Return the body for a message to people. at: RFC 3339."""
    if template == "wecom":
        return _wecom(message.subject, message.text)
    if template != "metergate":
        return _json(_foreign(template, message.events[0], f"{message.subject}\n{message.text}"))
    items = [{"type": event.kind, "timestamp": event.at, **_short(event)} for event in message.events[:_MOST_ITEMS]]
    data = {
        "rule": message.rule,
        "step": message.step,
        "subject": message.subject,
        "text": message.text,
        "count": len(message.events),
        "digest": message.digest,
        "items": items,
    }
    return _json({"type": "notification", "timestamp": at, "data": data})


def accepted(template: str, answer: Answer) -> str:
    """Return "" when the receiver took it, else why not. WeCom says no with a 200 and an errcode."""
    if not 200 <= answer.status < 300:
        return f"it answered {answer.status}" + ("; redirects are not followed" if answer.status // 100 == 3 else "")
    if template == "wecom":
        try:
            said = json.loads(answer.body)
            code = said["errcode"]
        except (ValueError, KeyError, TypeError):
            return "it answered 200 without an errcode: no WeCom robot"
        return "" if code == 0 else f"WeCom refused it: errcode {code} {str(said.get('errmsg', ''))[:120]}"
    return ""


def _short(event: Told) -> dict[str, Any]:
    return {
        "priority": event.priority,
        "subject": event.subject,
        "object": event.object_kind,
        "id": event.object_id,
        "district": event.district,
    }


def _wecom(title: str, text: str) -> str:
    lines = "\n".join(f"> {_harmless(row)}" for row in text.splitlines())
    content = f"**{_harmless(title)}**\n{lines}".encode()
    if len(content) > _WECOM_BYTES:
        content = content[: _WECOM_BYTES - 4].decode("utf-8", "ignore").encode() + "…".encode()
    return _json({"msgtype": "markdown", "markdown": {"content": content.decode()}})


def _harmless(text: str) -> str:
    """Leave out what would become a link, a mention or markup in somebody's chat."""
    return "".join(" " if c in "<>[]()`*_#@\\" else c for c in text)


def _foreign(template: str, event: Told, text: str) -> dict[str, Any]:
    data = event.data
    place = data.get("place") or data.get("usage_point") or data.get("gateway") or ""
    name = f"{event.subject} {place}".strip()
    return {"odoo": _odoo, "atlas": _atlas, "maximo": _maximo}[template](event, data, name, text)


def _odoo(event: Told, data: Mapping[str, Any], name: str, text: str) -> dict[str, Any]:
    return {
        "model": "maintenance.request",
        "name": name,
        "description": text,
        "maintenance_type": "corrective",
        "priority": _ODOO[event.priority],
        "schedule_date": data.get("appointment_at") or data.get("due_at"),
        "x_metergate_event": event.kind,
        "x_metergate_object": f"{event.object_kind}/{event.object_id}",
        "x_metergate_external_id": data.get("external_id", ""),
    }


def _atlas(event: Told, data: Mapping[str, Any], name: str, text: str) -> dict[str, Any]:
    return {
        "title": name,
        "description": text,
        "priority": _ATLAS[event.priority],
        "dueDate": data.get("due_at"),
        "customId": f"{event.object_kind}/{event.object_id}",
        "event": event.kind,
        "externalId": data.get("external_id", ""),
    }


def _maximo(event: Told, data: Mapping[str, Any], name: str, text: str) -> dict[str, Any]:
    return {
        "spi:description": name[:100],
        "spi:description_longdescription": text,
        "spi:wopriority": _MAXIMO[event.priority],
        "spi:reportdate": event.at,
        "spi:targcompdate": data.get("due_at"),
        "spi:externalrefid": f"{event.object_kind}/{event.object_id}",
        "spi:sourcesysid": "METERGATE",
        "event": event.kind,
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
