"""One process of the API sends at a time: a lease in the registry's small facts, taken and renewed in transactions.

Two senders at once would do no harm (a delivery keeps its id, so that receivers know doubles), but people would be
told twice.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.ledger import upsert
from registry.models import State

KEY: Final = "outbound.leader"


def hold(connection: Connection, holder: str, *, now_ms: int, lease_ms: int) -> bool:
    """Take or renew the lease; False while another one holds it. The row stays locked until the transaction ends."""
    upsert(connection, State, [{"key": KEY, "value": "{}"}], ("key",), replace=False)
    said = json.loads(
        connection.execute(sa.select(State.value).where(State.key == KEY).with_for_update()).scalar_one()
    )
    # a lease from far in the future is of a clock that was wrong: nobody waits for that
    taken = now_ms < int(said.get("until", 0)) <= now_ms + 10 * lease_ms
    if taken and said.get("holder") != holder:
        return False
    if taken and int(said["until"]) - now_ms > lease_ms // 2:
        return True  # long enough: a look that finds nothing writes nothing
    _write(connection, {"holder": holder, "until": now_ms + lease_ms})
    return True


def release(connection: Connection, holder: str) -> None:
    """Give the lease back, so that the next one need not wait for its end."""
    said = json.loads(
        connection.execute(sa.select(State.value).where(State.key == KEY).with_for_update()).scalar() or "{}"
    )
    if said.get("holder") == holder:
        _write(connection, {})


def _write(connection: Connection, said: dict[str, Any]) -> None:
    connection.execute(sa.update(State).where(State.key == KEY).values(value=json.dumps(said)))
