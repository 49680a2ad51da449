"""Files of readings, exchanges and facts as background jobs: looked at first, posted as a whole afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import Connection

from api.jobs.settings import JobSettings
from api.jobs.words import JobError, Work
from registry import import_exchanges, import_facts, imports
from registry.book_changes import BookError
from registry.database import Database
from registry.imports import Preview
from registry.roles import Actor

PREVIEW: Final = "books.preview"
POST: Final = "books.post"
KINDS: Final = ("readings", "exchanges", "purchases", "scada", "parents")
_POST: Final[dict[str, Callable[..., int]]] = {
    "readings": imports.post_readings,
    "exchanges": import_exchanges.post_exchanges,
}


def preview_file(
    database: Database, actor: Actor, kind: str, file: Path, *, now: int, name: str, district: str | None = None
) -> Preview:
    """Look at a file of a kind and keep what was seen as a batch; nothing is posted.

    Raises: ValueError when the file cannot be used at all; BookError when it was posted before.
    """
    if kind == "exchanges":
        return import_exchanges.preview_exchanges(database, actor, file, now=now, name=name)
    if kind == "readings":
        return imports.preview_readings(database, actor, file, now=now, name=name, district=district)
    return import_facts.preview_facts(database, actor, kind, file, now=now, name=name)  # type: ignore[arg-type]  # the other kinds are facts


def post_batch(connection: Connection, actor: Actor, batch: int, **accepted: Any) -> int:
    """Post a batch of any kind in this transaction; return how many rows. Raises: BookError, nothing is posted."""
    post = _POST.get(imports.batch_row(connection, batch)["kind"], import_facts.post_facts)
    return post(connection, actor, batch, **accepted)


def keep_upload(settings: JobSettings, content: bytes) -> str:
    """Put a file where its job finds it, and return its name there."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    name = f"upload-{secrets.token_hex(16)}"
    (settings.folder / name).write_bytes(content)
    return name


def preview_job(job: Work) -> dict[str, Any]:
    """Look at an uploaded file. args: kind, upload (of `keep_upload`), name, district."""
    args = job.args
    file = job.result.parent / args["upload"]
    if not file.is_file():
        raise JobError("the file is not on this host any more; send it again")
    job.progress(1, "")
    try:
        facts = {"now": job.now_ms, "name": args["name"], "district": args["district"] or None}
        seen = preview_file(job.database, job.actor, args["kind"], file, **facts)
    except ValueError as error:
        raise JobError(f"this file cannot be used: {error}") from error
    finally:
        file.unlink(missing_ok=True)
    return {"batch": seen.batch, "expected": seen.expected, "delivered": seen.delivered, **seen.counts}


def post_job(job: Work) -> dict[str, Any]:
    """Post a batch that was looked at. args: batch, accept_doubtful, leave_bad, note. All of it, or nothing."""
    args, outcome = job.args, dict[str, Any]()
    accepted = {name: args[name] for name in ("accept_doubtful", "leave_bad", "note")}
    try:
        with job.database.begin() as connection:
            rows = post_batch(connection, job.actor, args["batch"], now=job.now_ms, **accepted)
            outcome = {"batch": args["batch"], "rows": rows}
            job.settle(connection, outcome)
    except BookError as error:
        raise JobError(error.message) from error
    return outcome
