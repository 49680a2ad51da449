"""`metergate import readings | exchanges | purchases | scada | parents | post | reverse`, `export readings-list`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from metergate.commands.books import import_app
from metergate.commands.export_totals import export_reading_report, export_totals
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metergate.operators import operator
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metering.clock import SystemClock
from metering.errors import SettingsError
from registry import import_exchanges, import_facts, imports, readings_list, tabular
from registry.database import Database
from registry.imports import Preview
from registry.roles import console

__all__ = ["export_app", "import_app"]

_ERRORS: Final = ("line", "verdict", "usage_point", "meter", "reason", "detail")
export_app = typer.Typer(no_args_is_help=True, help="Write files for the people outside.")

export_app.command("totals")(export_totals)
export_app.command("reading-report")(export_reading_report)

FileArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV (UTF-8 or GBK) or XLSX.")]
ErrorsOption = Annotated[
    Path | None, typer.Option("--errors", help="Write a line for each bad or doubtful row here.")
]
PostOption = Annotated[bool, typer.Option("--post", help="Post it when nothing stands in the way.")]
AcceptOption = Annotated[bool, typer.Option("--accept-doubtful", help="Post the doubtful rows, too.")]
LeaveOption = Annotated[
    bool, typer.Option("--leave-bad", help="Post although rows that cannot be used are left out.")
]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of file: how it is looked at and posted, and what is said when it was. help: of its command."""

    look: Callable[..., Preview]
    post: Callable[..., int]
    said: str
    help: str = ""


_BACK: Final = "; to take them back: metergate import reverse {batch}"
_READINGS: Final = _Kind(
    imports.preview_readings,
    imports.post_readings,
    "{count} readings are safe in the registry and on their way to the store",
)
_FACTS: Final = "{count} rows" + _BACK
_KINDS: Final = {
    "exchanges": _Kind(
        import_exchanges.preview_exchanges,
        import_exchanges.post_exchanges,
        "{count} exchanges" + _BACK,
        """Try out a list of meter exchanges; with --post record them all, as one batch that can be reversed.

        Example: metergate import exchanges exchanges.xlsx --post
        """,
    ),
    "purchases": _Kind(
        partial(import_facts.preview_facts, kind="purchases"),
        import_facts.post_facts,
        _FACTS,
        """Volumes bought for prepaid meters: usage_point or account_number, at, volume in m³, reference.

        Example: metergate import purchases march.csv --errors bad.csv --post
        """,
    ),
    "scada": _Kind(
        partial(import_facts.preview_facts, kind="scada"),
        import_facts.post_facts,
        _FACTS,
        """Totals of a SCADA system: usage_point or account_number, from, to (or interval hour, day), volume.

        Example: metergate import scada march.csv --post
        """,
    ),
    "parents": _Kind(
        partial(import_facts.preview_facts, kind="parents"),
        import_facts.post_facts,
        _FACTS,
        """Which usage point's meter supplies which ones: parent, child, from, parent_class, child_class.

        Example: metergate import parents risers.csv --post
        """,
    ),
}


@import_app.command("readings")
def import_readings(
    file: FileArgument,
    config: ConfigOption = None,
    errors: ErrorsOption = None,
    post: PostOption = False,
    accept_doubtful: AcceptOption = False,
    leave_bad: LeaveOption = False,
    send_back: Annotated[
        list[str] | None, typer.Option(help="Meter to be read again; may stand several times.")
    ] = None,
    district: Annotated[str | None, typer.Option(help="Whose meters were to be read; all when not given.")] = None,
) -> None:
    """Look at readings that a hand-held reader or a person brought: counts, anomalies; with --post take them in.

    Example: metergate import readings march.csv --errors bad.csv --send-back M-0017 --post
    """
    with errors_as_words():
        facts = {"district": district, "limits": load_settings(config).billing.limits_of()}
    knowingly = {"accept_doubtful": accept_doubtful, "leave_bad": leave_bad}
    _import(_READINGS, file, config, errors, knowingly if post else None, send_back=send_back or [], **facts)


def _command(kind: _Kind) -> Callable[..., None]:
    def command(
        file: FileArgument,
        config: ConfigOption = None,
        errors: ErrorsOption = None,
        post: PostOption = False,
        accept_doubtful: AcceptOption = False,
        leave_bad: LeaveOption = False,
    ) -> None:
        knowingly = {"accept_doubtful": accept_doubtful, "leave_bad": leave_bad}
        _import(kind, file, config, errors, knowingly if post else None)

    command.__doc__ = kind.help
    return command


for _name, _kind in _KINDS.items():
    import_app.command(_name)(_command(_kind))


def _import(
    kind: _Kind,
    file: Path,
    config: Path | None,
    errors: Path | None,
    knowingly: Mapping[str, bool] | None,
    *,
    send_back: Sequence[str] = (),
    **facts: Any,
) -> None:
    """Look at a file, show what is in it, and post it. knowingly: what the person accepts; None posts nothing."""
    with _opened(config) as database:
        now, actor = SystemClock().now_ms(), console(operator())
        with _as_settings_error(file):
            preview = kind.look(database, actor, file=file, now=now, **facts)
        if send_back:
            with database.begin() as connection:
                imports.send_back(connection, actor, preview.batch, send_back, now=now)
        _show(database, preview.batch, errors)
        if knowingly is not None:
            with database.begin() as connection:
                count = kind.post(connection, actor, preview.batch, now=now, **knowingly)
            say("posted: " + kind.said.format(count=count, batch=preview.batch))
        elif preview.counts.get("bad"):
            raise typer.Exit(EXIT_FAILED)


@import_app.command("post")
def post_batch(
    batch: Annotated[int, typer.Argument(help="Number of a previewed batch.")],
    config: ConfigOption = None,
    accept_doubtful: AcceptOption = False,
    leave_bad: LeaveOption = False,
) -> None:
    """Post a batch that was looked at before.

    Example: metergate import post 17 --accept-doubtful
    """
    with _opened(config) as database, database.begin() as connection:
        now, actor = SystemClock().now_ms(), console(operator())
        kinds = {"readings": imports.post_readings, "exchanges": import_exchanges.post_exchanges}
        work = kinds.get(imports.batch_row(connection, batch)["kind"], import_facts.post_facts)
        count = work(connection, actor, batch, now=now, accept_doubtful=accept_doubtful, leave_bad=leave_bad)
    say(f"posted: {count} rows of batch {batch}")


@import_app.command("reverse")
def reverse_batch(
    batch: Annotated[int, typer.Argument(help="Number of a posted batch; readings are corrected instead.")],
    note: Annotated[str, typer.Option(help="Why.")],
    config: ConfigOption = None,
) -> None:
    """Take a posted batch back as a whole; the records stay visible.

    Example: metergate import reverse 17 --note "list of another district"
    """
    with _opened(config) as database:
        now, actor = SystemClock().now_ms(), console(operator())
        with database.begin() as connection:
            facts = imports.batch_row(connection, batch)["kind"] in import_facts.COLUMNS
            take_back = import_facts.reverse_facts if facts else import_exchanges.reverse_exchanges
            count = take_back(connection, actor, batch, now=now, note=note)
    say(f"reversed: {count} rows of batch {batch}")


@export_app.command("readings-list")
def export_readings_list(
    out: Annotated[Path, typer.Argument(help="File to write: .csv or .xlsx.")],
    config: ConfigOption = None,
    encoding: Annotated[Literal["utf-8", "gbk"], typer.Option(help="Of a CSV.")] = "utf-8",
    district: Annotated[str | None, typer.Option(help="Only this district.")] = None,
    reading_day: Annotated[str, typer.Option(help="Day that stands in the list, such as 2026-03-20.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also meters that a gateway reads.")] = False,
) -> None:
    """Write the list of what a meter reader must read; filled in, it comes back by `import readings`.

    Example: metergate export readings-list march.csv --encoding gbk --reading-day 2026-03-20
    """
    with _opened(config) as database:
        with database.read() as connection:
            rows = readings_list.rows(connection, district=district, reading_day=reading_day, everything=everything)
            if out.suffix.lower() == ".xlsx":
                count = tabular.write_xlsx(out, readings_list.HEADER, rows)
            else:
                count = tabular.write_csv(out, readings_list.HEADER, rows, encoding)
        say(f"{out}: {count} meters to read")


@contextmanager
def _opened(config: Path | None) -> Iterator[Database]:
    with errors_as_words(), registry(load_settings(config)) as database:
        yield database


@contextmanager
def _as_settings_error(file: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise SettingsError(f"{file.name}: {error}") from error


def _show(database: Database, batch: int, errors: Path | None) -> None:
    with database.read() as connection:
        preview = imports.preview_of(connection, batch)
        if errors is not None:
            rows = map(_cells, imports.problems(connection, batch, "bad", "doubt", "reread"))
            tabular.write_csv(errors, _ERRORS, rows, "utf-8")
    emit(json.dumps(asdict(preview), ensure_ascii=False))
    if errors is not None:
        say(f"{errors}: a line for each row that is not simply good")


def _cells(row: Any) -> tuple[str, ...]:
    return str(row.line), row.verdict, row.usage_point, row.meter, row.reason, row.detail
