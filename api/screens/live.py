"""One fan-out of server-sent events: the registry is asked once for all who watch, however many they are.

An event says what changed, in words ("findings", "orders", "readings", "gateways"); a page that shows such a thing
fetches itself anew. What a viewer has not yet taken is merged into one event, so that a slow reader costs a set of
words and never a queue. Findings and orders of a district are told only to those who may see it; whoever may not look
at readings hears of orders alone. A page that shows one meter is told "meter" when that one was read, and not with
every reading of the city.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from api.access.identify import Identity
from api.problems import ProblemError
from api.screens.live_look import Looker, Seen, change_of
from api.screens.live_stream import Change, Stream
from api.screens.said import plain
from api.screens.texts import LANGUAGES
from api.settings import ApiSettings
from api.workers import Workers
from metering.clock import Clock
from metering.errors import MetergateError
from registry import sessions
from registry.database import Database
from registry.models_access import Session, User
from registry.roles import Actor
from registry.settings import AccessSettings

POLL_S: Final = 0.25
BEAT_S: Final = 10.0
SETTLED_S: Final = 1.5
"""Pages share answers that are up to a second old: a change is new to a page that is made so shortly after it."""
LINGER_S: Final = 10.0
"""So long the hub goes on to look when nobody watches: who goes from one page to the next has not left."""
_REMEMBERED: Final = 256
_PACE_MS: Final = 900
_PACE_EACH_MS: Final = 20
"""What one renewal of a page costs the server at most: where many watch, each renews less often."""


class Hub:
    """Looks at the registry while somebody watches, and tells every viewer. Used from the event loop only."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        workers: Workers,
        limits: ApiSettings,
        access: AccessSettings | None = None,
    ) -> None:
        self._database, self._clock, self._workers, self._limits = database, clock, workers, limits
        self._access = access or AccessSettings()
        self._boot = f"{clock.now_ms():x}"
        self._streams: dict[Stream, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._looker = Looker(database, clock=clock, stale_s=limits.ingest_stale_s)
        self._seen: Seen | None = None
        self._number = 0
        self._past: deque[Change] = deque(maxlen=_REMEMBERED)

    @property
    def viewers(self) -> int:
        """How many watch now."""
        return len(self._streams)

    @property
    def boot(self) -> str:
        """What the ids of our events begin with."""
        return self._boot

    @property
    def place(self) -> str:
        """Where a page stands whose data are read from now on; "" while nobody looks."""
        if self._seen is None:
            return ""
        long_ago = self._clock.monotonic() - SETTLED_S
        number = self._number
        for change in reversed(self._past):
            if change.at <= long_ago:
                break
            number = change.number - 1
        return f"{self._boot}-{number}"

    def join(
        self,
        identity: Identity,
        last_event_id: str = "",
        *,
        meter: str = "",
        seen_at: int = 0,
        language: str = "en",
    ) -> Stream | None:
        """Return a new viewer's stream, what it missed already in it; None when there is no room.

        last_event_id: of the last event that he got, or the place of his page; whoever names none looks anew.
        meter: the one that his page shows, with a reading of `seen_at` [ms UTC]. language: of his page.
        """
        if len(self._streams) >= self._limits.max_event_streams and not self._make_room(identity.actor):
            return None
        facts = identity.session
        stream = Stream(
            identity.actor,
            meter=meter,
            seen_at=seen_at,
            language=language,
            unsure=self._seen is None,
            number=self._number,
        )
        if facts is not None:
            stream.session_id, stream.version, stream.expires_at = facts.id, facts.version, facts.expires_at
        self._streams[stream] = None
        stream.note("hello", self._state(language))
        if not stream.unsure:  # else he looks anew after our first look: what he fetched before may be older
            self._catch_up(stream, last_event_id)
        if self._task is None or self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
            self._task = asyncio.create_task(self._run())
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a viewer; harmless twice."""
        self._streams.pop(stream, None)

    def close(self) -> None:
        """End every stream."""
        for stream in list(self._streams):
            stream.end()

    def _make_room(self, actor: Actor) -> bool:
        """End the oldest stream of whoever has many more than the newcomer, so that nobody takes all places."""
        held = Counter(stream.actor.name for stream in self._streams)
        name, most = held.most_common(1)[0]
        if most <= held[actor.name] + 1:
            return False
        oldest = next(stream for stream in self._streams if stream.actor.name == name)
        oldest.end()
        self.leave(oldest)
        return True

    def _catch_up(self, stream: Stream, last_event_id: str) -> None:
        boot, _, number = last_event_id.partition("-")
        known = boot == self._boot and number.isascii() and number.isdigit() and len(number) < 16
        oldest = self._past[0].number if self._past else self._number + 1
        if not known or not oldest - 1 <= int(number) <= self._number:
            stream.note("resync", "{}")
            return
        for change in self._past:
            if change.number > int(number):
                stream.tell(change)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Look until nobody watches any more; then the past is forgotten, since nobody looked."""
        self._looker.forget()
        now = self._clock.monotonic()
        beat_at, rest_at = now + BEAT_S, now + LINGER_S
        try:
            while self._streams or now < rest_at:
                await self._look_once()
                if now >= beat_at:
                    beat_at = now + BEAT_S
                    await self._beat()
                await self._clock.sleep(POLL_S)
                now = self._clock.monotonic()
                rest_at = now + LINGER_S if self._streams else rest_at
        finally:
            self._seen = None
            self._past.clear()
            self._number += 1  # an id from before the pause is too old to be caught up with

    async def _look_once(self) -> None:
        try:
            meters = {stream.meter for stream in self._streams if stream.meter}
            seen = await self._workers.run(lambda: self._looker.look(meters))
        except (SQLAlchemyError, MetergateError, ProblemError) as error:
            seen = None
            self._say_stale((f"registry: {getattr(error, 'orig', None) or error}",))
        if seen is None:
            return
        before, self._seen = self._seen, seen
        if before is None or before.stale != seen.stale:
            self._say_stale(seen.stale)
        if before is not None:
            self._tell(change_of(self._number + 1, before, seen))
        for stream in [stream for stream in self._streams if stream.unsure]:
            stream.unsure = False
            stream.note("resync", "{}")

    def _tell(self, change: Change) -> None:
        if change.topics:
            self._number = change.number
            now = self._clock.monotonic()
            self._past.append(replace(change, latest={}, at=now))  # a page that comes back says what it shows
        elif not change.latest:
            return
        for stream in list(self._streams):
            stream.tell(replace(change, number=self._number))

    # -- the beat --------------------------------------------------------------------------------------------------

    def _say_stale(self, stale: tuple[str, ...]) -> None:
        if self._seen is not None:
            self._seen = replace(self._seen, stale=stale)
        self._note_all(stale)

    def _note_all(self, stale: tuple[str, ...]) -> None:
        states = {language: self._told(language, stale) for language in LANGUAGES}
        for stream in list(self._streams):
            stream.note("beat", states[stream.language])

    def _state(self, language: str) -> str:
        return self._told(language, self._seen.stale if self._seen else ())

    def _told(self, language: str, stale: tuple[str, ...]) -> str:
        said = [plain(language, line) for line in stale]
        return json.dumps({"at": self._clock.now_ms(), "stale": said, "pace": self._pace_ms()})

    def _pace_ms(self) -> int:
        """How long a page waits between two renewals [ms]."""
        return max(_PACE_MS, _PACE_EACH_MS * len(self._streams))

    async def _beat(self) -> None:
        """Say that the link lives, and end the streams of logins that are over: an open page is use of its login."""
        with contextlib.suppress(SQLAlchemyError, MetergateError, ProblemError):
            good = await self._workers.run(self._good_sessions)
            now = self._clock.now_ms()
            for stream in [stream for stream in self._streams if stream.session_id]:
                until, version = good.get(stream.session_id, (0, -1))
                if until <= now or version != stream.version:
                    stream.end()
        self._note_all(self._seen.stale if self._seen else ())

    def _good_sessions(self) -> Mapping[str, tuple[int, int]]:
        """Return (expires_at, version of the user) of the sessions that are watched, noting the use once a minute."""
        ids = sorted({stream.session_id for stream in list(self._streams) if stream.session_id})
        found: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(SQLAlchemyError, MetergateError):  # a busy registry loses only the note
            sessions.touch_watched(self._database, ids, self._clock.now_ms(), self._access)
        with self._database.read() as connection:
            for start in range(0, len(ids), 500):
                rows = connection.execute(_SESSIONS.where(Session.id.in_(ids[start : start + 500])))
                found.update({row.id: (row.expires_at, row.version) for row in rows})
        return found


_SESSIONS: Final = (
    sa.select(Session.id, Session.expires_at, User.version).join(User, User.id == Session.user_id).where(User.enabled)
)
