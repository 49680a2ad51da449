"""How commands speak: machine output on standard output, words to people on standard error, one exit code a kind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape

from metering.errors import MetergateError, SettingsError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Tell a person something (standard error)."""
    err.print(escape(text))


def emit(line: str) -> None:
    """Write one line of machine output (standard output)."""
    sys.stdout.write(line + "\n")


@contextmanager
def errors_as_words() -> Iterator[None]:
    """Turn our errors into their sentences and an exit code; a traceback is for bugs only."""
    try:
        yield
    except SettingsError as error:
        for problem in error.problems:
            err.print(f"[red]✗[/red] {escape(problem)}")
        raise typer.Exit(EXIT_USAGE) from None
    except MetergateError as error:
        err.print(f"[red]✗[/red] {escape(str(error))}")
        raise typer.Exit(EXIT_FAILED) from None
    except OSError as error:
        err.print(f"[red]✗[/red] {escape(str(error))}")
        raise typer.Exit(EXIT_FAILED) from None
