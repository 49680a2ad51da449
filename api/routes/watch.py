"""/livez, /readyz, /metrics: for whatever watches the house."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.metrics import CONTENT_TYPE, Sample
from api.parameters import Nothing
from api.queries import reported
from api.queries.readiness import readiness
from api.replies import JSON, reply
from api.routes.documented import answers
from api.schemas import Alive, Readiness
from metering.errors import RegistryError

router = APIRouter(tags=["watching"])


@router.get("/livez", summary="Is the process alive?", **answers(Alive))
async def livez(request: Request, query: Annotated[Nothing, Query()]) -> Response:
    """Answers as long as the event loop turns; asks nobody else."""
    return reply(request, Alive(), cached=False)


_READY = answers(Readiness)
_READY["responses"][503] = {"model": Readiness, "description": "A dependency failed."}


@router.get("/readyz", summary="Is everything there?", **_READY)
async def readyz(house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]) -> Response:
    """Registry, store, ingest, broker and gateways, each with its reason; 503 when one of the first four failed."""
    now_ms = house.clock.now_ms()
    state = await house.workers.run(
        lambda: readiness(
            house.database,
            house.store,
            areas=caller.areas,
            now_ms=now_ms,
            ingest_stale_s=house.settings.ingest_stale_s,
            gateway_stale_s=house.settings.gateway_stale_s,
        )
    )
    status = 503 if state.status == "failed" else 200
    return Response(
        state.model_dump_json(), status_code=status, media_type=JSON, headers={"cache-control": "no-store"}
    )


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_model=None,
    responses={200: {"description": "Figures.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(house: InHouse, query: Annotated[Nothing, Query()]) -> Response:
    """The API's own figures, and what ingest and the gateways report; without a registry only the former."""
    now_ms, stale_s = house.clock.now_ms(), house.settings.gateway_stale_s
    try:
        found = await house.read(
            lambda c: list(reported.samples(c, now_ms=now_ms, stale_s=stale_s, alarms=house.alarms))
        )
        up = Sample("api_registry_up", (), 1.0)
    except (RegistryError, SQLAlchemyError):
        found, up = [], Sample("api_registry_up", (), 0.0)
    return Response(house.metrics.page(lambda: [up, *found]), media_type=CONTENT_TYPE)
