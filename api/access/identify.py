"""Who calls: a key or a login becomes an `Actor`, looked up in the registry and remembered for a moment.

Every lookup runs in threads of its own, so that a store that hangs keeps nobody from being known, and a thousand
requests a second with one key ask the registry once per `api.identity_cache_s`. What was revoked, disabled or changed
by another process therefore works for that long; what this process changes itself acts at once (`forget`). Only
hashes are remembered, never a key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Scope

from api.access import credentials, origin
from api.access.limits import Buckets
from api.access.record import Recorder
from api.problems import ProblemError
from api.settings import ApiSettings
from api.workers import Workers
from metering.clock import Clock
from metering.errors import RegistryError
from registry import keys, sessions
from registry.database import Database
from registry.keys import KeyFacts
from registry.roles import Actor
from registry.sessions import SessionFacts
from registry.settings import AccessSettings

_LOG: Final = structlog.get_logger("api")
_MOST: Final = 10_000
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="metergate", error="invalid_token"'}


@dataclass(frozen=True, slots=True)
class Identity:
    """A known caller. session: None for a key. page_token: what a request that changes something must show."""

    actor: Actor
    session: SessionFacts | None = None
    page_token: str = ""

    def fits(self, token: str) -> bool:
        """True when a page's token belongs to this login."""
        return self.session is not None and self.session.csrf_fits(token)


class Identifier:
    """Looks callers up. Used from the event loop only."""

    def __init__(
        self,
        database: Database,
        *,
        limits: ApiSettings,
        access: AccessSettings,
        clock: Clock,
        workers: Workers,
        recorder: Recorder,
    ) -> None:
        self._database, self._access, self._clock = database, access, clock
        self._workers, self._recorder = workers, recorder
        self._keep_s = limits.identity_cache_s
        self._known: OrderedDict[str, tuple[float, KeyFacts | SessionFacts | None]] = OrderedDict()
        self._asked: dict[str, asyncio.Task[KeyFacts | SessionFacts | None]] = {}
        self._touching: set[asyncio.Task[None]] = set()
        self.tries = Buckets(per_s=limits.tries_per_min / 60, burst=limits.tries_burst, clock=clock)

    def forget(self) -> None:
        """Look everybody up again: something about users, logins or keys was changed here."""
        self._known.clear()
        self._asked.clear()

    async def identify(self, scope: Scope) -> Identity | None:
        """Return who calls, None when nothing (or a login that is over) is shown.

        Raises: ProblemError 401 for a key that is not good, 429 for an address that tries too many.
        """
        text = credentials.bearer(scope)
        if text is not None:
            return await self._by_key(scope, text)
        token = credentials.cookie(scope, credentials.cookie_name(scope))
        return await self._by_session(scope, token) if token else None

    async def is_real(self, text: str) -> bool:
        """True for a good key; only to tell whoever reads the log what to do."""
        try:
            return await self._look("key", text, lambda: self._find_key(text)) is not None
        except (RegistryError, SQLAlchemyError, ProblemError):
            return False

    async def _by_key(self, scope: Scope, text: str) -> Identity:
        where = origin.address(scope)
        place = origin.network(where)
        if wait := self.tries.wait(place):
            detail = f"too many keys were tried from this address; wait {wait} s"
            raise ProblemError(429, "too-many-requests", detail, headers={"retry-after": str(wait)})
        found = await self._look("key", text, lambda: self._find_key(text))
        if not isinstance(found, KeyFacts) or not found.good(self._clock.now_ms()):
            self.tries.take(place)
            await self._recorder.refused("bad-key", scope, [credentials.shown_key(text)])
            detail = "this key is not good: unknown, expired or revoked"
            raise ProblemError(401, "not-identified", detail, headers=_CHALLENGE)
        return Identity(replace(found.actor, address=where))

    async def _by_session(self, scope: Scope, token: str) -> Identity | None:
        found = await self._look("session", token, lambda: self._find_session(token))
        if not isinstance(found, SessionFacts) or found.expires_at <= self._clock.now_ms():
            return None
        return Identity(replace(found.actor, address=origin.address(scope)), found, found.page_token)

    # -- the registry ----------------------------------------------------------------------------------------------

    async def _look(
        self, kind: str, text: str, find: Callable[[], KeyFacts | SessionFacts | None]
    ) -> KeyFacts | SessionFacts | None:
        """Return what is remembered, else ask once for all who wait for the same answer."""
        name = hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()
        until, facts = self._known.get(name, (-1.0, None))
        if self._clock.monotonic() < until:
            return facts
        task = self._asked.get(name)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = self._asked[name] = asyncio.create_task(self._workers.run(find))
        try:
            facts = await asyncio.shield(task)
        finally:
            if task.done() and self._asked.get(name) is task:
                del self._asked[name]
                if not task.cancelled() and task.exception() is None:
                    self._remember(name, facts)
        return facts

    def _remember(self, name: str, facts: KeyFacts | SessionFacts | None) -> None:
        self._known[name] = (self._clock.monotonic() + self._keep_s, facts)
        self._known.move_to_end(name)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        if facts is not None and facts.touch_due(self._clock.now_ms()):
            task = asyncio.create_task(self._touch(facts))
            self._touching.add(task)
            task.add_done_callback(self._touching.discard)

    def _find_key(self, text: str) -> KeyFacts | None:
        with self._database.read() as connection:
            return keys.find(connection, text, self._clock.now_ms())

    def _find_session(self, token: str) -> SessionFacts | None:
        with self._database.read() as connection:
            return sessions.find(connection, token, self._clock.now_ms())

    async def _touch(self, facts: KeyFacts | SessionFacts) -> None:
        """Note the use, at most once a minute; nobody waits for it, and a busy registry loses only the note."""

        def inside() -> None:
            now = self._clock.now_ms()
            with self._database.begin() as connection:
                if isinstance(facts, KeyFacts):
                    keys.touch(connection, facts.id, now)
                else:
                    sessions.touch(connection, facts, now, self._access)

        try:
            await self._workers.run(inside)
        except (RegistryError, SQLAlchemyError, ProblemError) as error:
            _LOG.warning("use_not_noted", of=facts.actor.name, error=str(error))
