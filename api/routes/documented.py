"""What FastAPI's document needs to know of a route that builds its answer itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def answers(model: type[BaseModel], *, streams: bool = False, status: int = 200) -> dict[str, Any]:
    """Return the arguments of a route that answers with `model`; streams: as NDJSON and CSV too."""
    content: dict[str, Any] = {}
    if streams:
        content = {
            "application/x-ndjson": {"schema": {"type": "string", "description": "One JSON object a line."}},
            "text/csv": {"schema": {"type": "string", "description": "One line per reading and quantity."}},
        }
    described: dict[str, Any] = {"model": model, "description": _first_line(model)}
    if content:
        described["content"] = content
    return {"response_model": None, "responses": {status: described}}


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().partition("\n")[0]
