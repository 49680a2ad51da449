"""`metergate …` and `python -m metergate …`: the front door."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from metergate import __version__
from metergate.commands import backtest, books, check, decode, demo, detect, poll, services

app = typer.Typer(
    name="metergate",
    help="Telemetry gateway for remote-read gas, water and electricity meters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def front_door(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Telemetry gateway for remote-read gas, water and electricity meters."""


app.command()(demo.demo)
app.command()(services.gateway)
app.command()(services.ingest)
app.command()(services.api)
app.command("all")(services.all_services)
app.command()(check.check)
app.command()(books.plan)
app.add_typer(books.import_app, name="import")
app.command()(poll.poll)
app.command()(decode.decode)
app.command()(detect.detect)
app.command()(backtest.backtest)


def main() -> None:
    """Run the command line."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # machine output must not wait in a buffer for a pipe
    app()


if __name__ == "__main__":
    main()
