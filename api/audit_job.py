"""The check of the whole audit as a job: every row hashed again and compared with the anchors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from api.jobs.words import JobError, Work
from registry import audit_check
from registry.anchors import Anchor, newest

KIND: Final = "audit.verify"
_NAMED: Final = 5


def verify_job(job: Work) -> dict[str, Any]:
    """Check the audit and offer every fault as a line. Raises: JobError where nothing is anchored."""
    anchors = job.materials.anchors
    if anchors is None:
        raise JobError(
            "this API anchors no audit, so that a cut tail would not show; see audit.anchors in the settings"
        )
    job.progress(1, "reading every row")
    verdict = audit_check.check(job.database, anchors)
    lines = [json.dumps({"sort": fault.sort, "number": fault.number, "text": fault.text}) for fault in verdict.faults]
    job.result.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    job.named = "audit-faults.jsonl", "application/x-ndjson"
    return {
        "rows": verdict.rows,
        "last": verdict.last,
        "anchors": verdict.anchors,
        "faults": len(verdict.faults) + verdict.more,
        "first": [f"{fault.sort} {fault.number}: {fault.text}" for fault in verdict.faults[:_NAMED]],
    }


def last_anchor(path: Path | None) -> tuple[Anchor | None, str]:
    """Return (the newest anchor, why there is none to show)."""
    if path is None:
        return None, ""
    try:
        return newest(path), ""
    except OSError as error:
        return None, f"{path}: {error.strerror}"
