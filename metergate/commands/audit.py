"""`metergate audit`: who changed what, and whether anybody changed the record of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import structlog
import typer

from metergate.administration import desk, shown_time
from metergate.console import EXIT_FAILED, emit, say
from metergate.logs import configure
from metergate.running import ConfigOption
from metering.clock import parse_rfc3339
from metering.errors import SettingsError
from registry import audit
from registry.anchors import anchor
from registry.audit_check import Verdict, check

audit_app = typer.Typer(no_args_is_help=True, help="The record of all changes: list it, check it, anchor it.")

_AnchorsOption = Annotated[
    Path | None, typer.Option("--anchors", help="File of anchors, such as the copy of another host.")
]


@audit_app.command("verify")
def verify(anchors: _AnchorsOption = None, config: ConfigOption = None) -> None:
    """Check the whole audit against its chain and its anchors; exit code 1 when anything is wrong.

    Example: metergate audit verify --anchors /mnt/other-host/audit-anchors.jsonl
    """
    with desk(config, changes=False) as at_desk:
        path = anchors or at_desk.settings.audit.anchors
        if anchors is not None and not anchors.exists():
            raise SettingsError(f"--anchors {anchors}: there is no such file")
        verdict = check(at_desk.database, path)
        _show(verdict, path)
        if verdict.faults:
            raise typer.Exit(EXIT_FAILED)


def _show(verdict: Verdict, path: Path) -> None:
    for fault in verdict.faults:
        emit(json.dumps({"fault": fault.sort, "row": fault.number, "text": fault.text}, ensure_ascii=False))
        say(f"✗ {fault.text}")
    if verdict.more:
        say(f"… and {verdict.more} more")
    count = len(verdict.faults) + verdict.more
    facts = {"sound": not count, "faults": count, "rows": verdict.rows, "anchors": verdict.anchors}
    emit(json.dumps(facts | {"last": verdict.last}))
    said = f"{verdict.rows} rows, the last is row {verdict.last}; {verdict.anchors} anchors in {path}"
    say(f"✗ {count} faults in {said}" if count else f"✓ sound: {said}")


@audit_app.command("list")
def list_(
    actor: Annotated[str, typer.Option(help="Who, as in the rows: user:li, key:mg_ab12cd34, console:root.")] = "",
    action: Annotated[str, typer.Option(help="What, as in the rows: user.edit, or user. for all of a kind.")] = "",
    kind: Annotated[str, typer.Option(help="Kind of object, as in the rows: user, key, meter.")] = "",
    object_id: Annotated[str, typer.Option("--id", help="The object's id.")] = "",
    since: Annotated[str, typer.Option(help="From this time on, such as 2026-03-01T00:00:00+08:00.")] = "",
    until: Annotated[str, typer.Option(help="Before this time.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most rows.")] = 100,
    config: ConfigOption = None,
) -> None:
    """List what was changed, the newest first.

    Example: metergate audit list --action user. --since 2026-03-01T00:00:00+08:00
    """
    with desk(config, changes=False) as at_desk:
        begin, end = _time("--since", since), _time("--until", until)
        with at_desk.database.read() as connection:
            rows = audit.records(
                connection,
                actor=actor,
                action=action,
                object_kind=kind,
                object_id=object_id,
                since=begin,
                until=end,
                limit=limit,
            )
        for row in rows:
            plain = {key: value for key, value in row.items() if key not in ("previous", "hash")}
            emit(json.dumps(plain | {"at": shown_time(row["at"])}, ensure_ascii=False))


def _time(option: str, text: str) -> int | None:
    try:
        return parse_rfc3339(text) if text else None
    except ValueError as error:
        raise SettingsError(f"{option} {text}: {error}") from None


@audit_app.command("anchor")
def anchor_(config: ConfigOption = None) -> None:
    """Append the audit's newest number and hash to the file of anchors now, and log it.

    Example: metergate audit anchor
    """
    with desk(config, changes=False) as at_desk:
        configure(at_desk.settings.log, "audit")
        path = at_desk.settings.audit.anchors
        made = anchor(at_desk.database, path, structlog.get_logger("audit"), at_desk.at)
        if made is None:
            say(f"{path}: the last anchor says it already")
        else:
            emit(json.dumps(asdict(made)))
