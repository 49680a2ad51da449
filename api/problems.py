"""Errors as RFC 9457 problem documents: one shape for every refusal, and never a traceback.

{"type": "urn:metergate:problem:invalid-parameter", "title": "Invalid parameter", "status": 422,
 "detail": "…", "instance": "/api/v1/meters", "errors": [{"in": "query", "name": "limt", …}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"
_URN: Final = "urn:metergate:problem:"
_MAX_SHOWN: Final = 80


class ParameterProblem(BaseModel):
    """What is wrong with one part of a request."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    place: str = Field(alias="in", description="query, path or header.", examples=["query"])
    name: str = Field(description="Name of the parameter as it was sent.", examples=["limt"])
    value: str | None = Field(description="What was sent, cut to 80 characters.", examples=["5"])
    problem: str = Field(description="What is allowed.", examples=['unknown parameter; did you mean "limit"?'])


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = Field(description="Stable name of this sort of problem.", examples=[f"{_URN}invalid-parameter"])
    title: str = Field(description="The sort of problem in words.", examples=["Invalid parameter"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="One sentence on this very case.")
    instance: str | None = Field(None, description="The address that was asked for.", examples=["/api/v1/meters"])
    errors: list[ParameterProblem] | None = Field(None, description="The parameters that were refused, all at once.")


class ProblemError(Exception):
    """Raised by routes and their parts; answered as a problem document."""

    def __init__(
        self,
        status: int,
        sort: str,
        detail: str,
        *,
        errors: Sequence[ParameterProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.sort, self.detail = status, sort, detail
        self.errors, self.headers = list(errors), dict(headers or {})


def not_found(what: str, name: object) -> ProblemError:
    """Return the error for an object that does not exist."""
    return ProblemError(404, "not-found", f"there is no {what} {shown(name)!r}")


def invalid(name: str, value: object, problem: str, *, place: str = "query") -> ProblemError:
    """Return the error for one parameter that cannot be used."""
    fault = ParameterProblem(place=place, name=shown(name), value=shown(value), problem=problem)
    return ProblemError(422, "invalid-parameter", f"{fault.name}: {problem}", errors=[fault])


def shown(value: object, *, most: int = _MAX_SHOWN) -> str:
    """Return a text of something a caller sent, cut to `most` characters, without control characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def document(
    status: int, sort: str, detail: str, *, instance: str | None = None, errors: Sequence[ParameterProblem] = ()
) -> bytes:
    """Return one problem document as JSON (ASCII, so that it is safe in any page or log)."""
    body: dict[str, Any] = {
        "type": _URN + sort,
        "title": sort.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    if instance is not None:
        body["instance"] = shown(instance)
    if errors:
        body["errors"] = [fault.model_dump(by_alias=True) for fault in errors]
    return json.dumps(body).encode("ascii")


def response(
    status: int,
    sort: str,
    detail: str,
    *,
    instance: str | None = None,
    errors: Sequence[ParameterProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem document as an answer that nobody may cache."""
    return Response(
        document(status, sort, detail, instance=instance, errors=errors),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"cache-control": "no-store", **(headers or {})},
    )


def raw_answer(status: int, sort: str, detail: str) -> bytes:
    """Return a whole HTTP/1.1 answer that closes the connection, for requests that never became one."""
    body = document(status, sort, detail)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        "cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
