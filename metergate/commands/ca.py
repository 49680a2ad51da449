"""`metergate ca …`: certificates of one's own for the broker and the API."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from metergate import authority
from metergate.console import emit, errors_as_words, say
from metering.clock import SystemClock

ca_app = typer.Typer(no_args_is_help=True, help="A certificate authority of one's own, in one folder.")

FolderOption = Annotated[Path, typer.Option("--folder", "-f", help="Folder of the authority; back it up, encrypted.")]
_HERE = Path("/etc/metergate/ca")


@ca_app.command("init")
def init(
    folder: FolderOption = _HERE,
    title: Annotated[str, typer.Option(help="What certificates will say of their issuer.")] = "Metergate",
) -> None:
    """Make the authority: ca.pem for everybody who must trust it, ca.key for nobody (mode 0600). Never overwrites.

    Example: metergate ca init --folder /etc/metergate/ca --title "Gas company of Example City"
    """
    with errors_as_words():
        made = authority.create(folder, title, SystemClock().now_ms())
        say(f"{made}: give it to gateways and services as tls_ca; {folder / 'ca.key'} stays here")


@ca_app.command("issue")
def issue(
    names: Annotated[list[str], typer.Argument(help="DNS names and IP addresses by which it is reached.")],
    folder: FolderOption = _HERE,
    file: Annotated[str, typer.Option(help="What its files are called; the first name when not given.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days it is good for.")] = authority.LEAF_DAYS,
    renew: Annotated[bool, typer.Option("--renew", help="Replace one that is there.")] = False,
) -> None:
    """Issue a certificate with its key (mode 0600); the certificate's file holds the chain.

    Example: metergate ca issue broker.example.org 192.0.2.7 --file broker
    """
    with errors_as_words():
        made = authority.issue(folder, names, SystemClock().now_ms(), file=file, days=days, renew=renew)
        say(f"{folder / made.name}.pem and .key: for {', '.join(made.names)}, until {made.not_after}")


@ca_app.command("list")
def list_issued(folder: FolderOption = _HERE) -> None:
    """Print every certificate as a JSON line, with the days it has left; says which should be renewed.

    Example: metergate ca list
    """
    with errors_as_words():
        now = SystemClock().now_ms()
        known = list(authority.issued_before(folder))
        newest = {issued.name: issued for issued in known}
        for issued in known:
            left = authority.days_left(issued, now)
            emit(json.dumps({**asdict(issued), "days_left": left, "replaced": newest[issued.name] != issued}))
        for issued in newest.values():
            if authority.days_left(issued, now) < authority.RENEW_DAYS:
                words = f"metergate ca issue {' '.join(issued.names)} --file {issued.name} --renew"
                say(f"{issued.name} ends {issued.not_after}: {words}")
