"""`metergate …` and `python -m metergate …`: the front door.

Only the command that is called is imported: a gateway at the edge must not carry numpy, SQLAlchemy and the API in its
memory (measured: 171 MB with all of them).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Final

import typer

from metergate import __version__
from metering.ending import leave

COMMANDS: Final = {
    "demo": "demo:demo",
    "gateway": "gateway:gateway",
    "ingest": "services:ingest",
    "anomaly": "anomaly:anomaly",
    "office": "office:office",
    "api": "services:api",
    "all": "services:all_services",
    "check": "check:check",
    "plan": "books:plan",
    "import": "imports:import_app",
    "validate": "validate:validate",
    "validation": "validate:validation_app",
    "export": "imports:export_app",
    "command": "command:app",
    "commission": "commission:commission",
    "poll": "poll:poll",
    "decode": "decode:decode",
    "solve": "solve:solve",
    "scan": "scan:scan",
    "bus": "bus:bus",
    "broker": "broker:broker_app",
    "ca": "ca:ca_app",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "detect": "detect:detect",
    "backtest": "backtest:backtest",
    "findings": "findings:findings_app",
    "thresholds": "thresholds:thresholds_app",
    "precision": "precision:precision",
    "simulate": "simulate:simulate",
    "totals": "billing:totals",
    "close": "billing:close",
    "why": "billing:why_short",
    "reconcile": "reconcile:reconcile_app",
    "record": "record:app",
    "replay": "replay:app",
    "compare": "compare:compare",
    "inject": "inject:app",
    "slips": "slips:slips",
    "user": "user:user_app",
    "key": "key:key_app",
    "audit": "audit:audit_app",
}
"""Name -> module under `metergate.commands` and its function, or its group of commands."""


_SOON: Final = frozenset({"api"})
"""Services that promise to be gone soon after SIGTERM, and have closed everything when they return."""


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _front_door(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Telemetry gateway for remote-read gas, water and electricity meters."""


def build(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """Return the command line with these commands (all of them for help and tests)."""
    app = typer.Typer(
        name="metergate",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_front_door)
    for name in names:
        module, _, member = COMMANDS[name].partition(":")
        found = getattr(import_module(f"metergate.commands.{module}"), member)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def main() -> None:
    """Run the command line."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # machine output must not wait in a buffer for a pipe
    called = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        build([called] if called in COMMANDS else COMMANDS)()
    except SystemExit as end:
        if called in _SOON and (end.code is None or isinstance(end.code, int)):
            leave(end.code or 0)
        raise


if __name__ == "__main__":
    main()
