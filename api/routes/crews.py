"""/api/v1/teams, /api/v1/absences: who can be sent, who is away, and who goes instead."""

from __future__ import annotations

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import words
from api.access.caller import InCaller
from api.house import InHouse
from api.orders import teams
from api.orders.lifecycle import State
from api.parameters import Nothing, clean
from api.problems import ProblemError, not_found
from api.replies import reply
from api.routes.documented import answers
from api.routes.order_parts import do
from api.schemas_work_orders import AbsenceIn, AbsenceMade, AbsenceOut, AbsencesOut, CrewOut, CrewsOut, TeamIn
from metering.clock import rfc3339
from registry.models_work_orders import Absence, WorkOrder
from registry.roles import Actor

router = APIRouter(prefix="/api/v1", tags=["work orders"])
NoQuery = Annotated[Nothing, Query()]
TeamPath = Annotated[
    str,
    Path(min_length=1, max_length=64, description="The team's name.", examples=["crew-1"]),
    AfterValidator(clean),
]
AbsencePath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The absence's id.", examples=[1])]


@router.get("/teams", summary="Teams and workers 班组", **answers(CrewsOut))
async def list_teams(request: Request, house: InHouse, caller: InCaller, query: NoQuery) -> Response:
    """Everybody who can be sent within the caller's areas, who is away until when, and how much each has."""
    now = house.clock.now_ms()
    return reply(request, CrewsOut(items=await house.read(lambda c: _crews(c, caller, now))))


def _crews(connection: Connection, caller: Actor, now: int) -> list[CrewOut]:
    gone = teams.away(connection, now)
    rows = connection.execute(
        sa.select(WorkOrder.assignee, sa.func.count())
        .where(WorkOrder.state.in_([State.DISPATCHED.value, State.ARRIVED.value]))
        .group_by(WorkOrder.assignee)
    )
    counted: dict[str, int] = {row[0]: row[1] for row in rows}
    found = sorted(teams.crews(connection).values(), key=lambda crew: crew.name)
    return [
        CrewOut(
            id=crew.name,
            team=crew.team,
            name=crew.shown,
            members=list(crew.members),
            districts=sorted(crew.districts or ()),
            enabled=crew.enabled,
            away_until=words.moment(gone[crew.name].ends_at) if crew.name in gone else None,
            dispatched=counted.get(crew.name, 0),
        )
        for crew in found
        if _shares(caller, crew)
    ]


def _shares(caller: Actor, crew: teams.Crew) -> bool:
    return caller.areas is None or crew.districts is None or bool(caller.areas & crew.districts)


@router.put("/teams/{team}", summary="Make or change a team", **answers(CrewsOut))
async def put_team(
    request: Request, house: InHouse, caller: InCaller, team: TeamPath, body: TeamIn, query: NoQuery
) -> Response:
    """Its members are users; who is disabled keeps his orders until they are reassigned."""
    name, now = team, house.clock.now_ms()
    if caller.areas is not None and not (body.districts and set(body.districts) <= caller.areas):
        raise ProblemError(403, "not-yours-to-do", "name only districts of your own areas, and at least one")

    def work(connection: Connection) -> list[CrewOut]:
        old = teams.crews(connection).get(name)
        if old is not None and old.team and caller.areas is not None and not (old.districts or {""}) <= caller.areas:
            raise ProblemError(403, "not-yours-to-do", "this team also works outside your areas")
        teams.put_team(
            connection, caller, name, shown=body.name, members=body.members, districts=body.districts,
            enabled=body.enabled, now_ms=now,
        )  # fmt: skip
        return [crew for crew in _crews(connection, caller, now) if crew.id == name]

    return reply(request, CrewsOut(items=await do(request, house, caller, work)), cached=False)


@router.get("/absences", summary="Absences 缺勤", **answers(AbsencesOut))
async def list_absences(request: Request, house: InHouse, caller: InCaller, query: NoQuery) -> Response:
    """Those that last or are to come, and the dispatched orders of those who are away now."""
    now = house.clock.now_ms()

    def read(connection: Connection) -> AbsencesOut:
        known = {crew.name for crew in teams.crews(connection).values() if _shares(caller, crew)}
        rows = connection.execute(
            sa.select(Absence).where(Absence.ends_at > now).order_by(Absence.begins_at, Absence.id)
        )
        left = [order.id for order in teams.stranded(connection, now) if caller.sees(order.district)]
        return AbsencesOut(items=[_absence(row) for row in rows if row.assignee in known], stranded=left)

    return reply(request, await house.read(read))


def _absence(row: sa.Row[Any]) -> AbsenceOut:
    facts = row._mapping
    return AbsenceOut(
        id=facts["id"],
        assignee=facts["assignee"],
        from_=rfc3339(facts["begins_at"]),
        to=rfc3339(facts["ends_at"]),
        note=facts["note"],
    )


@router.post("/absences", summary="Note an absence", status_code=201, **answers(AbsenceMade, status=201))
async def add_absence(
    request: Request, house: InHouse, caller: InCaller, body: AbsenceIn, query: NoQuery
) -> Response:
    """Nothing is dispatched to whoever is away; `reassign_to` sends somebody else to his orders, if it has begun."""
    now = house.clock.now_ms()
    begins = now if body.from_ is None else body.from_

    def work(connection: Connection) -> AbsenceMade:
        crew = teams.crews(connection).get(body.assignee)
        if crew is not None and not _shares(caller, crew):
            raise not_found("team or worker", body.assignee)
        number = teams.add_absence(
            connection, caller, body.assignee, begins_at=begins, ends_at=body.to, note=body.note, now_ms=now
        )
        moved: list[int] = []
        if body.reassign_to is not None:
            note = f"{body.assignee} is away: {body.note}".rstrip(": ")
            moved, _ = teams.reassign(connection, caller, body.assignee, body.reassign_to, now_ms=now, note=note)
        left = [order.id for order in teams.stranded(connection, now, body.assignee) if caller.sees(order.district)]
        row = connection.execute(sa.select(Absence).where(Absence.id == number)).one()
        return AbsenceMade(**_absence(row).model_dump(), moved=moved, stranded=left)

    made = reply(request, await do(request, house, caller, work), cached=False)
    made.status_code = 201
    return made


@router.post("/absences/{absence}/end", summary="End an absence", **answers(AbsencesOut))
async def end_absence(
    request: Request, house: InHouse, caller: InCaller, absence: AbsencePath, query: NoQuery
) -> Response:
    """Whoever was away is back, or never goes."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> AbsencesOut:
        row = connection.execute(sa.select(Absence).where(Absence.id == absence)).one_or_none()
        crew = None if row is None else teams.crews(connection).get(row.assignee)
        if row is None or (crew is not None and not _shares(caller, crew)):
            raise not_found("absence", absence)
        teams.end_absence(connection, caller, absence, now_ms=now)
        changed = connection.execute(sa.select(Absence).where(Absence.id == absence)).one()
        return AbsencesOut(items=[_absence(changed)], stranded=[])

    return reply(request, await do(request, house, caller, work), cached=False)
