"""The shift log 交接班: one open shift per desk, handed over and taken over by two people, immutable afterwards.

    open ── hand over (signed by the one who leaves) ──> handed ── take over (signed by another) ──> closed
                                                                        └──> the next one, open, from the hand-over on

What was open and what was done is frozen at the hand-over; both signatures stand in the audit with its digest. What
happens between the two signatures belongs to the next shift, so no minute is lost between two.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from registry import audit
from registry.models_jobs import Shift, ShiftNote
from registry.refusals import RefusedError
from registry.roles import Actor, Role, areas_from, areas_to
from registry.shift_content import content_of

SHIFT: Final = cast(sa.Table, Shift.__table__)
_NOTE: Final = cast(sa.Table, ShiftNote.__table__)


class StaleShiftError(RefusedError):
    """Somebody else changed it first."""


def begin(connection: Connection, actor: Actor, *, desk: str, now_ms: int, note: str = "") -> int:
    """Begin the first shift of a desk; it watches the districts of whoever begins it. Raises: RefusedError."""
    taken = connection.execute(sa.select(SHIFT.c.id).where(SHIFT.c.open_key == desk)).scalar()
    if taken is not None:
        raise RefusedError("conflict", f"shift {taken} of {desk} is not closed; take it over instead")
    if not _is_person(actor):
        raise RefusedError("conflict", "a shift is a person's: log in, a key of a program cannot sign")
    try:
        with connection.begin_nested():
            number = _insert(connection, actor.name, desk, areas_to(actor.areas), now_ms, None)
    except IntegrityError:
        raise RefusedError("conflict", f"somebody else began a shift of {desk} at this moment; look again") from None
    audit.append(connection, actor, "shift.begin", "shift", number, at=now_ms, after={"desk": desk}, note=note)
    if note:
        _add_note(connection, actor, number, note, now_ms)
    return number


def _is_person(actor: Actor) -> bool:
    return actor.name.startswith(("user:", "console:"))


def _insert(connection: Connection, who: str, desk: str, districts: list[str], at: int, previous: int | None) -> int:
    row: dict[str, Any] = {"desk": desk, "open_key": desk, "districts": districts, "state": "open", "on_duty": who}
    row |= {"started_at": at, "previous_id": previous, "handed_note": "", "taken_by": "", "taken_note": ""}
    row |= {"sha256": "", "version": 1}
    return int(connection.execute(sa.insert(SHIFT).values(row).returning(SHIFT.c.id)).scalar_one())


def may_see(actor: Actor, row: Any) -> bool:
    """True for whoever sees every district that the desk watches."""
    areas = areas_from(row["districts"])
    return actor.areas is None or (areas is not None and areas <= actor.areas)


def row_of(connection: Connection, actor: Actor, number: int, *, lock: bool = False) -> dict[str, Any]:
    """Return one shift. Raises: RefusedError when there is none that the actor may see."""
    statement = sa.select(SHIFT).where(SHIFT.c.id == number)
    row = connection.execute(statement.with_for_update() if lock else statement).mappings().first()
    if row is None or not may_see(actor, row):
        raise RefusedError("unknown", f"there is no shift {number}")
    return dict(row)


def rows(
    connection: Connection, actor: Actor, *, desk: str | None, state: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Return shifts that the actor may see, newest first."""
    shown: list[dict[str, Any]] = []
    while len(shown) < limit:
        wanted = sa.select(SHIFT).order_by(SHIFT.c.id.desc()).limit(limit)
        for column, value in ((SHIFT.c.desk, desk), (SHIFT.c.state, state)):
            wanted = wanted if value is None else wanted.where(column == value)
        wanted = wanted if before is None else wanted.where(SHIFT.c.id < before)
        found = connection.execute(wanted).mappings().all()
        if not found:
            break
        shown += [dict(row) for row in found if may_see(actor, row)]
        before = found[-1]["id"]
    return shown[:limit]


def add_note(connection: Connection, actor: Actor, number: int, note: str, *, now_ms: int) -> None:
    """Write a line into an open shift. Raises: RefusedError."""
    row = row_of(connection, actor, number, lock=True)
    if row["state"] != "open":
        raise RefusedError("conflict", f"shift {number} is {row['state']}: what is signed stays as it is")
    _add_note(connection, actor, number, note, now_ms)
    audit.append(connection, actor, "shift.note", "shift", number, at=now_ms, note=note[:500])


def _add_note(connection: Connection, actor: Actor, number: int, note: str, now_ms: int) -> None:
    last = sa.select(sa.func.coalesce(sa.func.max(_NOTE.c.number), 0)).where(_NOTE.c.shift_id == number)
    line = {"shift_id": number, "number": connection.execute(last).scalar_one() + 1, "at": now_ms}
    connection.execute(sa.insert(_NOTE).values(line | {"who": actor.name, "note": note}))


def hand_over(
    connection: Connection, actor: Actor, number: int, *, now_ms: int, note: str = "", version: int | None = None
) -> None:
    """Sign as the one who leaves, and freeze what was open and done. Raises: RefusedError, StaleShiftError.

    A supervisor may sign for somebody who had to leave; the audit says so. Until it is taken over, it can be signed
    again with what has happened since.
    """
    row = row_of(connection, actor, number, lock=True)
    _check(row, version)
    if row["state"] == "closed":
        raise RefusedError("conflict", f"shift {number} is closed: what both have signed stays as it is")
    if row["on_duty"] != actor.name and not (actor.has(Role.SUPERVISOR) and _is_person(actor)):
        raise RefusedError("conflict", f"{row['on_duty']} is on duty and hands over, or a supervisor does")
    content = content_of(connection, row, areas_from(row["districts"]), now_ms)
    content |= {"handed_by": actor.name, "handed_note": note}
    digest = digest_of(content)
    values = {"state": "handed", "handed_at": now_ms, "handed_note": note, "content": content, "sha256": digest}
    _save(connection, row, values)
    after = {"sha256": digest, "on_duty": row["on_duty"]}
    audit.append(connection, actor, "shift.hand_over", "shift", number, at=now_ms, after=after, note=note[:500])


def take_over(
    connection: Connection, actor: Actor, number: int, *, now_ms: int, note: str = "", version: int | None = None
) -> int:
    """Sign as the one who comes; the shift is closed, and his own begins. Returns its number.

    Raises: RefusedError, StaleShiftError.
    """
    row = row_of(connection, actor, number, lock=True)
    _check(row, version)
    if row["state"] != "handed":
        why = "hand it over first" if row["state"] == "open" else "it is closed"
        raise RefusedError("conflict", f"shift {number} is {row['state']}: {why}")
    if not _is_person(actor):
        raise RefusedError("conflict", "a shift is a person's: log in, a key of a program cannot sign")
    if actor.name in (row["on_duty"], row["content"]["handed_by"]):
        raise RefusedError("conflict", "nobody takes over from himself")
    if digest_of(row["content"]) != row["sha256"]:
        raise RefusedError("conflict", "the content is not the one that was signed; hand it over again")
    values = {"state": "closed", "open_key": None, "taken_at": now_ms, "taken_by": actor.name, "taken_note": note}
    _save(connection, row, values)
    after = {"sha256": row["sha256"], "from": row["on_duty"]}
    audit.append(connection, actor, "shift.take_over", "shift", number, at=now_ms, after=after, note=note[:500])
    following = _insert(connection, actor.name, row["desk"], row["districts"], row["handed_at"], number)
    audit.append(connection, actor, "shift.begin", "shift", following, at=now_ms, after={"desk": row["desk"]})
    return following


def digest_of(content: Any) -> str:
    """Return the digest that both signatures name."""
    return hashlib.sha256(audit.canonical(content).encode()).hexdigest()


def _check(row: dict[str, Any], version: int | None) -> None:
    if version is not None and version != row["version"]:
        raise StaleShiftError("conflict", f"shift {row['id']} was changed meanwhile: its version is {row['version']}")


def _save(connection: Connection, row: dict[str, Any], values: dict[str, Any]) -> None:
    still = (SHIFT.c.id == row["id"]) & (SHIFT.c.state != "closed")
    connection.execute(sa.update(SHIFT).where(still).values(**values, version=row["version"] + 1))
