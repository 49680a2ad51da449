"""The OpenAPI document: FastAPI's, with our problems and with who may call what."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import problems
from api.access import credentials, table
from api.problems import Problem

_PROBLEMS: Final = {
    "401": "Nobody known calls: no key, no login, or one that is not good.",
    "403": "The caller's roles do not open this.",
    "404": "There is no such object.",
    "406": "None of our formats is accepted.",
    "413": "The body is too large.",
    "421": "The Host header names another machine.",
    "422": "A parameter cannot be used; `errors` names each of them.",
    "429": "Too many requests; `Retry-After` says when to come again.",
    "500": "An error of ours; the log knows it by the number in `detail`.",
    "503": "Busy, or registry or store cannot be read now.",
}


_CHANGING: Final = {
    "409": "The state of the object does not allow it.",
    "412": "Somebody else changed it meanwhile.",
    "428": "If-Match is missing.",
}

_SCHEMES: Final = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key of a program: `Authorization: Bearer mg_…`."},
    "login": {
        "type": "apiKey",
        "in": "cookie",
        "name": credentials.COOKIE,
        "description": "A login of a person; `__Host-metergate` under TLS. Changes also need X-CSRF-Token.",
    },
}
_KNOWN: Final[list[dict[str, list[str]]]] = [{"key": []}, {"login": []}]


def _security(method: str, path: str) -> list[dict[str, list[str]]]:
    """What the table of roles asks for, in the words of OpenAPI; an empty object stands for nobody known."""
    who = table.TABLE.get((method.upper(), path))
    if who is table.ANYBODY:
        return []
    return [{}, *_KNOWN] if who is table.OPEN_ON_LOOPBACK else _KNOWN


def document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with problem documents for every refusal instead of FastAPI's own."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
        )
        schemas = made["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        _add_problem_schemas(schemas)
        made["components"]["securitySchemes"] = _SCHEMES
        for path, methods in made["paths"].items():
            for method, operation in methods.items():
                operation["security"] = _security(method, path)
                _add_problem_answers(operation["responses"], changing=method != "get")
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _present(parameter["schema"])
        app.openapi_schema = made
    return app.openapi_schema


_TAGS: Final = [
    {"name": "readings", "description": "What the meters show."},
    {"name": "meters", "description": "Meters, their places, their history."},
    {"name": "gateways", "description": "Edge programs and their delivery ledger."},
    {"name": "commands", "description": "What gateways are told to do, and what became of it."},
    {"name": "events", "description": "What went wrong, and what was refused."},
    {"name": "findings", "description": "What the rules found, its alarms, and maintenance windows."},
    {
        "name": "work orders",
        "description": "Who is sent where and why, what came back, and what it teaches the rules.",
    },
    {"name": "outbound", "description": "Webhooks, their deliveries, and who is notified of what."},
    {"name": "books", "description": "Meters and customers at usage points, manual readings, files."},
    {"name": "jobs", "description": "Long work in the background: how far it is, its result."},
    {"name": "billing", "description": "Monthly totals, their states, closes, deltas, read rates."},
    {"name": "access", "description": "Logins, users, keys, and who changed what."},
    {"name": "watching", "description": "For whatever watches the house."},
]


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter in an address is there or not, it is never null: leave that half of its schema out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **kinds[0]}


def _add_problem_schemas(schemas: dict[str, Any]) -> None:
    made = Problem.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schemas.update(made.pop("$defs", {}))
    schemas["Problem"] = made


def _add_problem_answers(answers: dict[str, Any], *, changing: bool) -> None:
    answers.pop("422", None)
    for status, description in (_PROBLEMS | _CHANGING if changing else _PROBLEMS).items():
        content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if status == "422":
            content[problems.MEDIA_TYPE]["example"] = _EXAMPLE
        if status not in answers:
            answers[status] = {"description": description, "content": content}


_EXAMPLE: Final = json.loads(
    problems.document(
        422,
        "invalid-parameter",
        'limt: unknown parameter; did you mean "limit"?',
        instance="/api/v1/meters",
        errors=[
            problems.ParameterProblem(
                place="query", name="limt", value="5", problem='unknown parameter; did you mean "limit"?'
            )
        ],
    )
)
