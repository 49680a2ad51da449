"""Webhooks and notification rules as people make and change them; each change with its audit row.

Whoever is limited to districts sees and makes only what is limited to those: a webhook for all districts would show
him the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.outbound import signing
from api.outbound.settings import is_mail_address
from metering.errors import MetergateError
from registry import audit
from registry.models_outbound import Notification, NotificationRule, Webhook, WebhookDelivery
from registry.roles import Actor

ROTATION_MS: Final = 86_400_000
"""So long the old secret still signs after a new one was made: a day."""
MOST_RULES: Final = 200


class UnknownError(MetergateError):
    """There is no such thing, or it lies in districts that the actor may not see."""


class StaleError(MetergateError):
    """Somebody else changed it since the actor looked."""


class BookError(MetergateError):
    """A change that is refused. field: what is wrong."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(why)
        self.field, self.value = field, value


def visible(actor: Actor, districts: Iterable[str]) -> bool:
    """True when everything that is limited to these districts ([] for none) may be seen by the actor."""
    named = frozenset(districts)
    return actor.areas is None or (bool(named) and named <= actor.areas)


def seen(connection: Connection, actor: Actor, table: Any) -> list[Row[Any]]:
    """Return all rows of webhooks or rules that the actor may see, by number."""
    rows = connection.execute(sa.select(table).order_by(table.id)).all()
    return [row for row in rows if visible(actor, row.districts)]


def one(connection: Connection, actor: Actor, table: Any, number: int, *, version: int | None = None) -> Row[Any]:
    """Return and lock one. version: that the actor has seen, None for any. Raises: UnknownError, StaleError."""
    row = connection.execute(sa.select(table).where(table.id == number).with_for_update()).one_or_none()
    what = "webhook" if table is Webhook else "notification rule"
    if row is None or not visible(actor, row.districts):
        raise UnknownError(f"there is no {what} {number}")
    if version is not None and version != row.version:
        raise StaleError(f"{what} {number} was changed meanwhile: its version is {row.version}")
    return row


def create_webhook(
    connection: Connection, actor: Actor, values: Mapping[str, Any], *, now_ms: int, most: int
) -> tuple[int, str]:
    """Make a webhook and return its number and its secret, which nobody sees again. Raises: BookError."""
    _check_common(connection, actor, Webhook, values, most)
    secret = signing.new_secret()
    facts = {**values, "secret": secret, "created_by": actor.name, "created_at": now_ms}
    number: int = connection.execute(sa.insert(Webhook).values(**facts).returning(Webhook.id)).scalar_one()
    after = _told(values)
    audit.append(connection, actor, "webhook.create", "webhook", number, at=now_ms, after=after)
    return number, secret


def change(
    connection: Connection,
    actor: Actor,
    table: Any,
    number: int,
    values: Mapping[str, Any],
    *,
    now_ms: int,
    version: int | None,
) -> None:
    """Change some fields of a webhook or a rule. Raises: UnknownError, StaleError, BookError."""
    row = one(connection, actor, table, number, version=version)
    values = {name: value for name, value in values.items() if getattr(row, name) != value}
    _check_common(connection, actor, table, {"districts": row.districts, **values}, None, but=number)
    if table is NotificationRule and "steps" in values:
        check_targets(connection, actor, values["steps"])
    if not values:
        return
    before = _told({name: getattr(row, name) for name in values})
    changed = {**values, "version": row.version + 1}
    if values.get("enabled") and table is Webhook:
        changed["disabled_why"] = ""
    connection.execute(sa.update(table).where(table.id == number).values(**changed))
    word = "webhook" if table is Webhook else "notification_rule"
    audit.append(connection, actor, f"{word}.change", word, number, at=now_ms, before=before, after=_told(values))


def delete_webhook(connection: Connection, actor: Actor, number: int, *, now_ms: int, version: int | None) -> None:
    """Remove a webhook and its deliveries. Raises: UnknownError, StaleError, BookError while a rule names it."""
    row = one(connection, actor, Webhook, number, version=version)
    for rule in connection.execute(sa.select(NotificationRule)).all():
        if any(f"webhook:{number}" in step["to"] for step in rule.steps):
            raise BookError("number", number, f"notification rule {rule.id} tells people by this webhook")
    connection.execute(sa.delete(WebhookDelivery).where(WebhookDelivery.webhook_id == number))
    connection.execute(sa.delete(Webhook).where(Webhook.id == number))
    audit.append(connection, actor, "webhook.delete", "webhook", number, at=now_ms, before={"name": row.name})


def rotate(connection: Connection, actor: Actor, number: int, *, now_ms: int, version: int | None) -> str:
    """Give a webhook a new secret and return it; for a day the old one signs as well. Raises: UnknownError."""
    row = one(connection, actor, Webhook, number, version=version)
    secret = signing.new_secret()
    values = {
        "secret": secret,
        "previous_secret": row.secret,
        "previous_until": now_ms + ROTATION_MS,
        "version": row.version + 1,
    }
    connection.execute(sa.update(Webhook).where(Webhook.id == number).values(**values))
    audit.append(connection, actor, "webhook.rotate_secret", "webhook", number, at=now_ms)
    return secret


def create_rule(connection: Connection, actor: Actor, values: Mapping[str, Any], *, now_ms: int) -> int:
    """Make a notification rule and return its number. Raises: BookError."""
    _check_common(connection, actor, NotificationRule, values, MOST_RULES)
    check_targets(connection, actor, values["steps"])
    facts = {**values, "created_by": actor.name, "created_at": now_ms}
    number: int = connection.execute(
        sa.insert(NotificationRule).values(**facts).returning(NotificationRule.id)
    ).scalar_one()
    audit.append(
        connection, actor, "notification_rule.create", "notification_rule", number, at=now_ms, after=dict(values)
    )
    return number


def delete_rule(connection: Connection, actor: Actor, number: int, *, now_ms: int, version: int | None) -> None:
    """Remove a rule with what it still had to tell. Raises: UnknownError, StaleError."""
    row = one(connection, actor, NotificationRule, number, version=version)
    connection.execute(sa.delete(Notification).where(Notification.rule_id == number))
    connection.execute(sa.delete(NotificationRule).where(NotificationRule.id == number))
    before = {"name": row.name, "steps": row.steps}
    audit.append(connection, actor, "notification_rule.delete", "notification_rule", number, at=now_ms, before=before)


def check_targets(connection: Connection, actor: Actor, steps: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a target that is no address or no webhook that the actor sees. Raises: BookError."""
    hooks = {row.id for row in seen(connection, actor, Webhook)}
    for target in (target for step in steps for target in step["to"]):
        channel, _, address = str(target).partition(":")
        if channel == "mail" and is_mail_address(address):
            continue
        if channel == "webhook" and address.isdecimal() and len(address) < 19 and int(address) in hooks:
            continue
        raise BookError("steps", target, 'tell "mail:somebody@example.org" or "webhook:" and the number of one')


def _check_common(
    connection: Connection, actor: Actor, table: Any, values: Mapping[str, Any], most: int | None, *, but: int = 0
) -> None:
    if not visible(actor, values["districts"]):
        allowed = ", ".join(sorted(actor.areas or ()))
        raise BookError("districts", values["districts"], f"name one or more of your districts: {allowed}")
    taken = sa.select(table.id).where(table.name == values.get("name"), table.id != but)
    if connection.execute(taken).scalar() is not None:
        raise BookError("name", values["name"], "there is one of that name already")
    if most is not None and connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() >= most:
        raise BookError("name", values["name"], f"there are {most} already; remove one that nobody needs")


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit keeps: of an address not what may be a key."""
    return {name: shown_url(value) if name == "url" else value for name, value in values.items()}


def shown_url(url: str) -> str:
    """Return an address without its query, which often holds a key."""
    head, sign, _ = url.partition("?")
    return head + ("?…" if sign else "")
