"""A line in the story of an order that changes nothing else: what the customer said, where the key is."""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import Connection

from api.orders.book import StepError, order_row, stale, tell
from registry.roles import Actor

DEED: Final = "note"


def add_note(
    connection: Connection, actor: Actor, order_id: int, text: str, *, now_ms: int, version: int | None = None
) -> None:
    """Keep a note with an order; it stands in its story and in the audit.

    version: what the caller has seen. Raises: StepError (incomplete) without a text; StaleError; UnknownOrderError.
    """
    if not text.strip():
        raise StepError("incomplete", "a note needs words")
    order = order_row(connection, order_id)
    if version is not None and version != order.version:
        raise stale(connection, order)
    tell(connection, actor, order, DEED, now_ms=now_ms, data={}, note=text)
