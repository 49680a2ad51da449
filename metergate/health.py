"""Is this one service well? For the health checks of containers, which want an exit code.

    python -m metergate.health api|anomaly|ingest|gateway|office [--config FILE]

api: it answers /livez. ingest, anomaly: its report in the registry is fresh. gateway: the health.json beside its
outbox is fresh. office: it holds its outbox. Exit code 0 when well; else 1 and one sentence. A service that waits for
broker, store or meters is well: to start it again would not help, and /readyz says what is missing.
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import ssl
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import DBAPIError

from anomaly.service import READY_KEY as ANOMALY_KEY
from gateway.service import health_path
from ingest.service import READY_KEY
from metergate.settings import Settings, load_settings
from metering.clock import Clock, SystemClock
from metering.errors import MetergateError
from registry import ledger as books
from registry.database import Database

_ANSWER_S: Final = 3.0
_MISSED_REPORTS: Final = 5
_LEAST_S: Final = 15.0
"""A report may be late by this much even when reports are frequent: hosts pause, disks are slow."""


def _any_certificate() -> ssl.SSLContext:
    """We ask whether it lives and tell it nothing; its certificate names the address of others, not ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def api(settings: Settings, _clock: Clock) -> str:
    """Return "" when the API answers, else why it is not well."""
    host, port = settings.api.host, settings.api.port
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
    if settings.api.tls_cert is not None:
        connection = http.client.HTTPSConnection(host, port, timeout=_ANSWER_S, context=_any_certificate())
    with closing(connection):
        try:
            connection.request("GET", "/livez")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"no answer from {host}:{port}: {error}"
    return "" if status == http.HTTPStatus.OK else f"/livez of {host}:{port} answers {status}"


def ingest(settings: Settings, clock: Clock) -> str:
    """Return "" when ingest reported lately, else why it is not well."""
    instance = settings.ingest.instance
    with closing(Database(settings.registry.url)) as database:
        try:
            with database.read() as connection:
                report = books.get_state(connection, READY_KEY + instance)
        except (MetergateError, DBAPIError) as error:
            return f"the registry cannot be asked: {getattr(error, 'orig', None) or error}"
    if report is None:
        return f"{instance} has never reported to the registry"
    return _stale(instance, json.loads(report), settings.ingest.report_s, clock)


def anomaly(settings: Settings, clock: Clock) -> str:
    """Return "" when the anomaly service reported lately, else why it is not well."""
    instance = settings.anomaly.instance
    with closing(Database(settings.registry.url)) as database:
        try:
            with database.read() as connection:
                report = books.get_state(connection, ANOMALY_KEY + instance)
        except (MetergateError, DBAPIError) as error:
            return f"the registry cannot be asked: {getattr(error, 'orig', None) or error}"
    if report is None:
        return f"{instance} has never reported to the registry"
    return _stale(instance, json.loads(report), settings.anomaly.report_s, clock)


def gateway(settings: Settings, clock: Clock) -> str:
    """Return "" when the gateway wrote its health lately, else why it is not well."""
    path = health_path(settings.gateway)
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {error}"
    return _stale(f"gateway {said['gateway']}", said, settings.gateway.health_interval_s, clock)


def office(settings: Settings, _clock: Clock) -> str:
    """Return "" when somebody holds the office's outbox, else why it is not well."""
    path = settings.office.outbox
    lock = path.with_name(path.name + ".lock")
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once, when the file is closed
    except BlockingIOError:
        return ""
    except OSError as error:
        return f"{lock} cannot be read: {error.strerror}"
    return f"nobody holds {lock}"


def _stale(who: str, said: dict[str, Any], every_s: float, clock: Clock) -> str:
    age_s = (clock.now_ms() - int(said["at"])) / 1000
    allowed_s = max(_LEAST_S, _MISSED_REPORTS * every_s)
    return "" if age_s <= allowed_s else f"{who} has been silent for {age_s:.0f} s; {allowed_s:.0f} s are allowed"


CHECKS: Final[dict[str, Callable[[Settings, Clock], str]]] = {
    "api": api,
    "anomaly": anomaly,
    "ingest": ingest,
    "gateway": gateway,
    "office": office,
}


def main(words: list[str] | None = None) -> int:
    """Look once; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m metergate.health", description="Is this one service well?")
    parser.add_argument("service", choices=sorted(CHECKS))
    parser.add_argument("--config", type=Path, help="Settings file of the service.")
    options = parser.parse_args(words)
    try:
        trouble = CHECKS[options.service](load_settings(options.config), SystemClock())
    except MetergateError as error:
        trouble = str(error)
    if trouble:
        print(trouble, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
