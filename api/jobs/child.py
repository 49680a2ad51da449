"""The process of one job: it opens registry and store of its own, works, and tells its parent over a pipe.

When the parent is gone the pipe breaks at the next progress, and the process ends; nobody is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from api.jobs.book import actor_of, settle
from api.jobs.kinds import kind_named
from api.jobs.words import Materials, Work
from metering.errors import MetergateError
from registry.database import Database

_NICE: Final = 10


def main(pipe: Connection, row: Mapping[str, Any], materials: Materials, path: Path) -> None:
    """Do the job of a row.

    Tells ("progress", percent, text), and at the end ("done", outcome, name, type) or ("failed", text, trace).
    """
    os.nice(_NICE)  # serving goes before
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what it began is put away
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        try:
            outcome, named = _work(pipe, row, materials, path)
        except (MetergateError, SQLAlchemyError) as error:
            pipe.send(("failed", str(getattr(error, "orig", None) or error)[:1000], ""))
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, whoever asked must hear of it
            pipe.send(
                ("failed", f"an error of ours ({type(error).__name__}); the log has it", traceback.format_exc())
            )
        else:
            pipe.send(("done", outcome, *named))


def _work(
    pipe: Connection, row: Mapping[str, Any], materials: Materials, path: Path
) -> tuple[dict[str, Any], tuple[str, str]]:
    with (
        contextlib.closing(Database(materials.database_url)) as database,
        contextlib.closing(materials.open_store()) as store,
    ):
        job = Work(
            row["id"],
            dict(row["args"]),
            actor_of(row),
            row["started_at"],
            database,
            store,
            materials,
            path,
            lambda percent, text: pipe.send(("progress", int(percent), str(text))),
            partial(settle, holder=row["holder"], number=row["id"]),
        )
        return kind_named(row["kind"], materials.kinds)(job), job.named
