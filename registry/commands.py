"""Commands to gateways: ordered and audited in one transaction, sent until their deadline, closed by their result.

    waiting ──published──► sent ──result──► done, failed, refused, unknown
       └──────deadline──────┴──► expired ──a result that was on its way──► done, …

The envelope is signed when the command is ordered and kept as it is; publishing it twice is harmless, its nonce makes
it one. A result is an event of the gateway whose text begins with the nonce.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.errors import RegistryError
from metering.messages import MAX_COMMAND_BYTES, Command, encode, nonce_of
from metering.signing import OfficeKey
from registry import audit
from registry.models import EventRecord, GatewayStatus
from registry.models_access import CommandRecord
from registry.roles import Actor

_TABLE: Final = CommandRecord.__table__
OPEN: Final = ("waiting", "sent")
LATE_RESULT_MS: Final = 7 * 24 * 3600 * 1000
"""For so long a result is looked for after the deadline: it may wait in the outbox of a gateway without a link."""
_LATE_MS: Final = 120_000
"""A gateway's clock may be behind: its result is dated by it."""
_SENTENCE: Final = 500
_ENDS: Final = {"done": "done", "refused": "refused", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class Order:
    """What is ordered. meter: the one meter it is about, "" for several. deadline_s: [s] from now."""

    gateway: str
    name: str
    args: Mapping[str, Any]
    nonce: str
    meter: str = ""
    deadline_s: int = 300


def order(connection: Connection, actor: Actor, key: OfficeKey, wanted: Order, *, at: int) -> Mapping[str, Any]:
    """Sign and keep a command, audited. The same nonce again returns what was ordered before.

    Raises: RegistryError when that was something else, or the command is too large.
    """
    known = find(connection, wanted.nonce)
    command = Command(
        1, wanted.gateway, wanted.name, dict(wanted.args), wanted.nonce, at, at + wanted.deadline_s * 1000
    )
    if known is not None:
        if _ordered(known) != (wanted.gateway, wanted.name, dict(wanted.args)):
            raise RegistryError("this Idempotency-Key was used for another command")
        return known
    payload = key.seal("command", encode(command))
    if len(payload) > MAX_COMMAND_BYTES:
        raise RegistryError(f"a command of {len(payload)} bytes; {MAX_COMMAND_BYTES} are possible: name fewer meters")
    row = {
        "nonce": wanted.nonce, "gateway_id": wanted.gateway, "meter": wanted.meter, "name": wanted.name,
        "payload": payload.decode(), "issued_by": actor.name, "issued_at": at, "deadline": command.deadline,
        "state": "waiting", "finished_at": None, "result": "",
    }  # fmt: skip
    connection.execute(sa.insert(CommandRecord).values(row))
    after = {"gateway": wanted.gateway, "name": wanted.name, "args": dict(wanted.args)}
    audit.append(connection, actor, f"command.{wanted.name}", "command", wanted.nonce, at=at, after=after)
    return row


def find(connection: Connection, nonce: str) -> Mapping[str, Any] | None:
    """Return one command, None when there is none."""
    row = connection.execute(sa.select(_TABLE).where(_TABLE.c.nonce == nonce)).mappings().first()
    return None if row is None else dict(row)


def to_send(connection: Connection, now: int, *, limit: int = 100) -> Sequence[Mapping[str, Any]]:
    """Return commands that wait for a gateway that is connected, oldest first."""
    online = sa.select(GatewayStatus.gateway).where(GatewayStatus.online)
    statement = (
        sa.select(_TABLE)
        .where(_TABLE.c.state == "waiting", _TABLE.c.deadline > now, _TABLE.c.gateway_id.in_(online))
        .order_by(_TABLE.c.issued_at)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def sent(connection: Connection, nonces: Sequence[str]) -> None:
    """The broker has them."""
    where = (_TABLE.c.nonce.in_(nonces), _TABLE.c.state == "waiting")
    connection.execute(sa.update(CommandRecord).where(*where).values(state="sent"))


def unsettled(connection: Connection, now: int, *, late: bool = True) -> Sequence[Mapping[str, Any]]:
    """Return the changes that are due: [{nonce, state, result, finished_at}] for `settle`. Only reads.

    late: look for results of expired commands too; a gateway that was away for days brings them.
    """
    statement = sa.select(_TABLE.c.nonce, _TABLE.c.state, _TABLE.c.gateway_id, _TABLE.c.issued_at, _TABLE.c.deadline)
    looked_for = sa.and_(_TABLE.c.state == "expired", _TABLE.c.deadline > now - LATE_RESULT_MS)
    is_open = _TABLE.c.state.in_(OPEN)
    found = connection.execute(statement.where(sa.or_(is_open, looked_for) if late else is_open)).mappings()
    rows = [dict(row) for row in found]
    if not rows:
        return []
    results = _results(connection, rows)
    changes = [{"nonce": row["nonce"], **results[row["nonce"]]} for row in rows if row["nonce"] in results]
    overdue = [row for row in rows if row["state"] in OPEN and row["deadline"] < now and row["nonce"] not in results]
    for row in overdue:
        why = "the gateway was not connected" if row["state"] == "waiting" else "no result came until the deadline"
        changes.append({"nonce": row["nonce"], "state": "expired", "result": why, "finished_at": now})
    return changes


def settle(connection: Connection, changes: Sequence[Mapping[str, Any]]) -> None:
    """Close commands with what became of them."""
    for change in changes:
        values = {name: value for name, value in change.items() if name != "nonce"}
        connection.execute(sa.update(CommandRecord).where(_TABLE.c.nonce == change["nonce"]).values(values))


def answers(connection: Connection, nonce: str, gateway: str, issued_at: int) -> list[dict[str, Any]]:
    """Return what the gateway said of each meter, [{meter, cause, sentence, at}]."""
    found = connection.execute(
        _events(issued_at).where(EventRecord.gateway == gateway, EventRecord.text.like(f"{nonce} %"))
    )
    return [
        {"meter": row.meter, "cause": row.cause, "sentence": nonce_of(row.text)[1], "at": row.at}
        for row in found
        if row.meter
    ]


def _results(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the closing row of each command that has one; the first counts, a known result before an unknown."""
    gateways = {row["nonce"]: row["gateway_id"] for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for row in connection.execute(
        _events(min(row["issued_at"] for row in rows)).where(
            EventRecord.meter == "", EventRecord.gateway.in_(set(gateways.values()))
        )
    ):
        nonce, sentence = nonce_of(row.text)
        if gateways.get(nonce) != row.gateway:  # a gateway answers for itself only
            continue
        if nonce not in found or found[nonce]["state"] == "unknown":
            found[nonce] = {
                "state": _ENDS.get(row.cause, "failed"),
                "result": sentence[:_SENTENCE],
                "finished_at": row.at,
            }
    return found


def _events(since: int) -> Any:
    return (
        sa.select(EventRecord.gateway, EventRecord.meter, EventRecord.cause, EventRecord.text, EventRecord.at)
        .where(EventRecord.kind == "command_result", EventRecord.at >= since - _LATE_MS)
        .order_by(EventRecord.id)
    )


def _ordered(row: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    body = msgspec.json.decode(msgspec.json.decode(row["payload"])["body"])
    return body["gateway"], body["name"], body["args"]
