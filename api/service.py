"""Run the API: one process, one socket, a clean end within 2 s of SIGTERM, and not a byte on stdout.

The socket is loopback unless TLS, or a proxy that has it, stands before every password; and even then only when an
administrator has chosen a password of his own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast

import uvicorn
from fastapi import FastAPI

from api.app import close, create_app
from api.background import background
from api.billing.settings import BillingSettings
from api.command_office import CommandOffice
from api.dispatch import Dispatcher
from api.guard import ConnectionGuard, GuardedProtocol
from api.jobs.workshop import Workshop
from api.metrics import ApiMetrics
from api.orders.policy import load_policy
from api.orders.settings import OrderSettings
from api.outbound.settings import OutboundSettings
from api.settings import NEEDS_TLS, ApiSettings
from api.tls import Certificate, certificate, follow
from metering.clock import Clock
from metering.errors import SettingsError
from metering.store import ReadingStore
from registry import users
from registry.database import Database
from registry.findings_settings import AlarmSettings
from registry.settings import AccessSettings, AuditSettings

_GRACE_S: Final = 1  # for answers under way when the end comes; uvicorn takes whole seconds
_ENOUGH_S: Final = 0.5
_BACKLOG: Final = 1024


async def run_api(
    settings: ApiSettings,
    *,
    database: Database,
    store: ReadingStore,
    clock: Clock,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[str], None] | None = None,
    access: AccessSettings | None = None,
    command_office: CommandOffice | None = None,
    alarms: AlarmSettings | None = None,
    audit: AuditSettings | None = None,
    orders: OrderSettings | None = None,
    billing: BillingSettings | None = None,
    outbound: OutboundSettings | None = None,
    workshop: Workshop | None = None,
) -> None:
    """Serve until `stop` is set; without one, until SIGTERM or SIGINT.

    audit: where the audit's head is anchored meanwhile; None anchors nothing. orders: how findings open work orders
    meanwhile; None opens none by itself.
    on_ready: called with the address ("http://127.0.0.1:8080", https with TLS) once connections are accepted.
    Raises: SettingsError when the address may not be served (yet), the port is taken, or the certificate is none.
    """
    if orders is not None:
        load_policy(orders.policy)  # a wrong one is said at the start, not when the first finding comes
    ending = stop or asyncio.Event()
    secured = certificate(settings)
    listener = bind(settings)
    _refuse_strangers(settings, listener, database)
    metrics = ApiMetrics()
    app = create_app(
        settings, database=database, store=store, clock=clock, metrics=metrics, access=access,
        command_office=command_office, alarms=alarms, orders=orders, workshop=workshop, outbound=outbound,
        billing_settings=billing,
    )  # fmt: skip
    server = _Server(_config(app, settings, metrics), clock, secured)
    with listener, contextlib.nullcontext() if stop else _signals(ending):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        watching = asyncio.create_task(_stop_when(ending, server, app))
        sending = asyncio.create_task(_dispatch(command_office, database, clock))
        following = asyncio.create_task(follow(secured, clock)) if secured else watching
        try:
            await _until_started(server, serving, clock)
            if server.started and on_ready is not None:
                on_ready(address(listener, "https" if secured else "http"))
            async with background(database, audit, clock, orders, workshop, outbound, store):
                await serving
        finally:
            watching.cancel()
            following.cancel()
            sending.cancel()
            server.should_exit = True
            await asyncio.gather(serving, watching, following, sending, return_exceptions=True)
            close(app)


async def _dispatch(command_office: CommandOffice | None, database: Database, clock: Clock) -> None:
    """Bring commands to their gateways, where this API has a key to sign them."""
    if command_office is not None:
        await Dispatcher(command_office, database, clock).run()


def bind(settings: ApiSettings) -> socket.socket:
    """Return the bound socket.

    Raises: SettingsError when the address is not loopback and nothing encrypts, or the port is taken.
    """
    host = "127.0.0.1" if settings.host.lower() == "localhost" else settings.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is said; without it every answer took 44 ms instead of 0.6 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, settings.port))
        bound = ipaddress.ip_address(listener.getsockname()[0])
        if not bound.is_loopback and not settings.encrypted:  # the last word, whatever made the settings
            raise SettingsError(f"api.host = {settings.host}: {NEEDS_TLS}")
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"api.port = {settings.port}: taken by another program; choose another port, or 0 for any"
            raise SettingsError(message) from error
        raise SettingsError(f"api.host = {settings.host}, port {settings.port}: {error.strerror}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _refuse_strangers(settings: ApiSettings, listener: socket.socket, database: Database) -> None:
    """Close the socket and raise SettingsError when others would reach it before an administrator has a password."""
    if ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        return
    try:
        with database.read() as connection:
            if users.ready(connection):
                return
        raise SettingsError(
            f"api.host = {settings.host}: no administrator has a password of his own yet; log in on this host first "
            f'(api.host = "127.0.0.1") and replace the one-time password'
        )
    except BaseException:
        listener.close()
        raise


def address(listener: socket.socket, scheme: str = "http") -> str:
    """Return "http://127.0.0.1:8080" of a bound socket."""
    host, port, *_ = listener.getsockname()
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers (they raise the signal again after a clean end), and with an end
    for callers who hang on: they are cut off before uvicorn would cancel their tasks and log each as an error."""

    def __init__(self, config: uvicorn.Config, clock: Clock, secured: Certificate | None) -> None:
        super().__init__(config)
        self._clock = clock
        self._secured = secured

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; with TLS it listens by our context, and with a deadline for handshakes that uvicorn lacks."""
        if self._secured is None:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        self.servers = [
            await asyncio.get_running_loop().create_server(
                self._connection,
                sock=listener,
                backlog=_BACKLOG,
                ssl=self._secured.context,
                ssl_handshake_timeout=self._secured.handshake_s,
            )
            for listener in sockets or []
        ]
        self.started = True

    def _connection(self) -> asyncio.Protocol:
        make = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting = asyncio.create_task(self._cut_off())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_off(self) -> None:
        await self._clock.sleep(_ENOUGH_S)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: FastAPI, settings: ApiSettings, metrics: ApiMetrics) -> uvicorn.Config:
    guard = ConnectionGuard(settings, metrics)
    return uvicorn.Config(
        app,
        http=cast(Any, partial(GuardedProtocol, guard=guard)),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=settings.idle_timeout_s,
        timeout_graceful_shutdown=_GRACE_S,
    )


async def _until_started(server: _Server, serving: asyncio.Task[None], clock: Clock) -> None:
    while not server.started and not serving.done():
        await clock.sleep(0.01)


async def _stop_when(ending: asyncio.Event, server: _Server, app: FastAPI) -> None:
    await ending.wait()
    app.state.house.hub.close()  # open pages are told, instead of being cut off
    server.should_exit = True


@contextlib.contextmanager
def _signals(ending: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `ending`; only the main thread may ask for signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    wanted = (signal.SIGTERM, signal.SIGINT)
    for number in wanted:
        loop.add_signal_handler(number, ending.set)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)
