"""`metergate findings`: what the rules found, and acknowledging it, at the console of the host."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from api.problems import ProblemError
from api.queries import findings
from api.queries.findings import Filters
from metergate.administration import desk
from metergate.console import EXIT_FAILED, emit, say
from metergate.running import ConfigOption
from registry import findings_actions
from registry.alarm_states import AlarmEvent, AlarmState, TransitionError
from registry.findings_actions import UnknownFindingError

findings_app = typer.Typer(no_args_is_help=True, help="Findings and their alarms: list, show, acknowledge.")

NumberArgument = Annotated[int, typer.Argument(min=1, help="The finding's id.")]


@findings_app.command("list")
def list_(
    state: Annotated[str, typer.Option(help="NORM, UNACK, ACKED, RTNUN, SHLVD, DSUPR or OOSRV.")] = "",
    kind: Annotated[str, typer.Option(help="Such as leak.")] = "",
    priority: Annotated[str, typer.Option(help="low, medium, high or urgent.")] = "",
    district: Annotated[str, typer.Option(help="Only this district.")] = "",
    meter: Annotated[str, typer.Option(help="Only this meter.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over or put aside.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most findings.")] = 100,
    config: ConfigOption = None,
) -> None:
    """List findings as JSON lines, the newest first; without --all or --state only what holds now and is shown.

    Example: metergate findings list --priority urgent
    """
    if state and state not in list(AlarmState):
        raise typer.BadParameter(f"--state {state}: allowed: {', '.join(AlarmState)}")
    filters = Filters(
        state=state or None,
        kind=kind or None,
        priority=priority or None,
        district=district or None,
        meter=meter or None,
        open_only=not everything and not state,
        suppressed=everything,
    )
    with desk(config, changes=False) as at_desk, at_desk.database.read() as connection:
        page = findings.list_findings(connection, areas=None, filters=filters, limit=limit)
        for item in page.items:
            emit(item.model_dump_json())
        if page.next_cursor is not None:
            say(f"there are more than {limit}; see --limit")


@findings_app.command("show")
def show(number: NumberArgument, config: ConfigOption = None) -> None:
    """Print one finding with its proof, its history and what can be done now.

    Example: metergate findings show 17
    """
    with desk(config, changes=False) as at_desk, at_desk.database.read() as connection:
        try:
            emit(findings.one_finding(connection, number, areas=None).model_dump_json())
        except ProblemError as error:
            raise UnknownFindingError(error.detail) from error


@findings_app.command("ack")
def ack(
    numbers: Annotated[list[int], typer.Argument(min=1, help="Ids of findings.")],
    note: Annotated[str, typer.Option(help="Why; it stays in the history.")] = "",
    config: ConfigOption = None,
) -> None:
    """Acknowledge findings 确认; exit code 1 when one of them cannot be acknowledged now.

    Example: metergate findings ack 17 18 --note "Zhao is on the way"
    """
    if len(note) > 1000 or not note.isprintable():
        raise typer.BadParameter("--note: at most 1000 characters, no control characters")
    failed = 0
    with desk(config, changes=True) as at_desk:
        for number in numbers:
            try:
                with at_desk.database.begin() as connection:
                    change = findings_actions.act(
                        connection, at_desk.actor, number, AlarmEvent.ACKNOWLEDGE, now_ms=at_desk.at, note=note
                    )
            except (UnknownFindingError, TransitionError) as error:
                failed += 1
                say(f"✗ {number}: {error}")
            else:
                emit(json.dumps({"id": number, "from": change.old_state, "state": change.new_state}))
    if failed:
        raise typer.Exit(EXIT_FAILED)
