"""Who can be sent: teams and single workers, who is away, and moving the orders of those who are.

An assignee is a team, or a user with the role worker; a team that is called like a user stands before him. Whoever
is disabled or away, or does not work in the order's district, gets nothing; the refusal names those who could go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from api.orders.book import order_row, step
from api.orders.lifecycle import Deed, State, Step, StepError
from metering.clock import rfc3339
from registry import audit
from registry.models_access import User
from registry.models_work_orders import Absence, Team, WorkOrder
from registry.roles import Actor, Role, areas_from

_MOST_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Crew:
    """Somebody who can be sent. districts: where; None for everywhere. members: of a team, else the worker alone."""

    name: str
    team: bool
    shown: str
    members: tuple[str, ...]
    districts: frozenset[str] | None
    enabled: bool

    def works_in(self, district: str) -> bool:
        """True when an order of that district is for this crew."""
        return self.districts is None or district in self.districts


def crews(connection: Connection) -> dict[str, Crew]:
    """Return all teams and workers by name."""
    found = {}
    for user in connection.execute(sa.select(User.name, User.display_name, User.roles, User.areas, User.enabled)):
        if Role.WORKER in user.roles:
            areas = areas_from(user.areas)
            found[user.name] = Crew(user.name, False, user.display_name, (user.name,), areas, user.enabled)
    for team in connection.execute(sa.select(Team)):
        places = frozenset(team.districts) or None
        found[team.id] = Crew(team.id, True, team.name, tuple(team.members), places, team.enabled)
    return found


def away(connection: Connection, at: int) -> dict[str, Row[Any]]:
    """Return who is away at a time [ms UTC]: name -> the absence that ends last."""
    rows = connection.execute(
        sa.select(Absence).where(Absence.begins_at <= at, Absence.ends_at > at).order_by(Absence.ends_at)
    )
    return {row.assignee: row for row in rows}


def free(connection: Connection, *, district: str, at: int) -> list[str]:
    """Return who could be sent to a district at a time, by name."""
    gone = away(connection, at)
    return sorted(
        crew.name
        for crew in crews(connection).values()
        if crew.enabled and crew.works_in(district) and not _is_away(crew, gone)
    )


def _is_away(crew: Crew, gone: dict[str, Row[Any]]) -> bool:
    """A team is away itself, or with all of its members."""
    return crew.name in gone or (bool(crew.members) and all(member in gone for member in crew.members))


def check_free(connection: Connection, name: str, *, district: str, at: int) -> None:
    """Refuse somebody who cannot be sent. Raises: StepError (impossible) that says why and who is free."""
    crew = crews(connection).get(name)
    gone = away(connection, at)
    if crew is None:
        why = f"there is no team or worker {name!r}"
    elif not crew.enabled:
        why = f"{name} is disabled"
    elif _is_away(crew, gone):
        until = min(gone[one].ends_at for one in (crew.name, *crew.members) if one in gone)
        why = f"{name} is away until {rfc3339(until)}"
    elif not crew.works_in(district):
        why = f"{name} does not work in {district or 'places without a district'}"
    else:
        return
    others = free(connection, district=district, at=at)
    more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    raise StepError("impossible", f"{why}; free now: {', '.join(others[:_MOST_NAMED]) or 'nobody'}{more}")


def require_of_crew(connection: Connection, actor: Actor, assignee: str, worker: str) -> None:
    """Refuse a receipt for somebody who is not of the crew that was sent. Raises: StepError (forbidden)."""
    if worker == actor.name.partition(":")[2] or actor.has(Role.DISPATCHER, Role.SUPERVISOR):
        return
    crew = crews(connection).get(assignee)
    if crew is None or worker not in crew.members:
        raise StepError("forbidden", f"{worker} is not of the crew that this order is dispatched to")


def dispatch(
    connection: Connection,
    actor: Actor,
    order_id: int,
    assignee: str,
    *,
    now_ms: int,
    version: int | None = None,
    note: str = "",
) -> Row[Any]:
    """Send somebody who is free, or another one than before. Raises: as `book.step`, and as `check_free`."""
    order = order_row(connection, order_id)
    if assignee:
        check_free(connection, assignee, district=order.district, at=now_ms)
    wanted = Step(Deed.DISPATCH, assignee=assignee, note=note)
    return step(connection, actor, order_id, wanted, now_ms=now_ms, version=version)


def own_of(connection: Connection, actor: Actor) -> frozenset[str]:
    """Return the assignees that an actor goes as: his own name, and the teams that he is a member of."""
    kind, _, name = actor.name.partition(":")
    if kind not in ("user", "key") or not name:
        return frozenset()
    rows = connection.execute(sa.select(Team.id, Team.members)).all()
    mine = {row.id for row in rows if name in row.members}
    return frozenset(mine | ({name} if all(row.id != name for row in rows) else set()))


def stranded(connection: Connection, at: int, assignee: str | None = None) -> Sequence[Row[Any]]:
    """Return the dispatched orders of those who are away (of one of them), the nearest deadline first."""
    gone = away(connection, at)
    names = [crew.name for crew in crews(connection).values() if _is_away(crew, gone)]
    chosen = [name for name in {*names, *gone} if assignee is None or name == assignee]
    return connection.execute(
        sa.select(WorkOrder)
        .where(WorkOrder.state == State.DISPATCHED.value, WorkOrder.assignee.in_(sorted(chosen)))
        .order_by(WorkOrder.due_at, WorkOrder.id)
    ).all()


def put_team(
    connection: Connection,
    actor: Actor,
    name: str,
    *,
    shown: str,
    members: Sequence[str],
    districts: Sequence[str],
    enabled: bool,
    now_ms: int,
) -> bool:
    """Make or change a team; return whether it is new.

    Raises: StepError (incomplete) for a name or member that no user has or that a user has.
    """
    if connection.execute(sa.select(User.id).where(User.name == name)).first():
        raise StepError("incomplete", f"a user is called {name!r}; give the team another name")
    known = set(connection.execute(sa.select(User.name).where(User.name.in_(list(members)))).scalars())
    if strangers := [member for member in members if member not in known]:
        raise StepError("incomplete", f"there is no user {strangers[0]!r}")
    values = {
        "name": shown,
        "members": sorted(set(members)),
        "districts": sorted(set(districts)),
        "enabled": enabled,
    }
    old = connection.execute(sa.select(Team).where(Team.id == name).with_for_update()).one_or_none()
    if old is None:
        connection.execute(sa.insert(Team).values(id=name, **values))
        audit.append(connection, actor, "team.create", "team", name, at=now_ms, after=values)
        return True
    before = {key: getattr(old, key) for key, value in values.items() if getattr(old, key) != value}
    if before:
        connection.execute(sa.update(Team).where(Team.id == name).values(**values))
        after = {key: values[key] for key in before}
        audit.append(connection, actor, "team.edit", "team", name, at=now_ms, before=before, after=after)
    return False


def add_absence(
    connection: Connection, actor: Actor, assignee: str, *, begins_at: int, ends_at: int, note: str, now_ms: int
) -> int:
    """Note that somebody is away. Times [ms UTC]. Raises: StepError (incomplete)."""
    if ends_at <= max(begins_at, now_ms):
        raise StepError("incomplete", "an absence ends after it begins, and in the future")
    if assignee not in crews(connection):
        raise StepError("incomplete", f"there is no team or worker {assignee!r}")
    values = {"assignee": assignee, "begins_at": begins_at, "ends_at": ends_at, "note": note}
    number = connection.execute(sa.insert(Absence).values(**values).returning(Absence.id)).scalar_one()
    audit.append(connection, actor, "absence.create", "absence", number, at=now_ms, after=values)
    return int(number)


def end_absence(connection: Connection, actor: Actor, number: int, *, now_ms: int) -> bool:
    """Let an absence end now, or never begin; False when there is none. Raises: StepError when it is over."""
    row = connection.execute(sa.select(Absence).where(Absence.id == number).with_for_update()).one_or_none()
    if row is None:
        return False
    if row.ends_at <= now_ms:
        raise StepError("impossible", f"this absence ended at {rfc3339(row.ends_at)}")
    end = max(now_ms, row.begins_at)
    connection.execute(sa.update(Absence).where(Absence.id == number).values(ends_at=end))
    before, after = {"ends_at": row.ends_at}, {"ends_at": end}
    audit.append(connection, actor, "absence.end", "absence", number, at=now_ms, before=before, after=after)
    return True


def reassign(
    connection: Connection, actor: Actor, assignee: str, to: str, *, now_ms: int, note: str
) -> tuple[list[int], list[int]]:
    """Send somebody else to the orders of one who is away; return (moved, left because nobody may go there).

    Only orders that the actor may see are touched; who has arrived finishes.
    """
    moved, left = [], []
    for order in stranded(connection, now_ms, assignee):
        if not actor.sees(order.district):
            continue
        try:
            dispatch(connection, actor, order.id, to, now_ms=now_ms, note=note)
        except StepError:
            left.append(order.id)
        else:
            moved.append(order.id)
    return moved, left
