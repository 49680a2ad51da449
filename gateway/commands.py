"""Commands of the office: checked before they are believed, carried out at most once, always answered.

A command is acted on when it came live (never retained), is small, bears the signature of a key that is known here,
names this gateway, is in time by this gateway's clock, and its nonce was never seen. Its nonce is on disk before
anything is done; its result goes through the outbox like a reading, and only then the nonce is crossed off. What a
start finds begun and not ended is answered "unknown": it is never done again.

    read-now    meters (up to 50)              reads them before the sweep of their bus
    set-clock   meters (up to 2000), offset    sets their clocks from this gateway's, and reads them back
    tap         seconds, buses, meters, to     records raw frames for so long (up to a day); 0 ends it
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.nonces import Nonces
from gateway.refusals import Refusals
from metering.clock import Clock
from metering.errors import MessageError, MetergateError, OutboxError
from metering.messages import MAX_COMMAND_BYTES, Command, decode_command, told
from metering.mqtt import Delivery
from metering.reading import Event, Row
from metering.signing import SignatureError, Verifier

SKEW_MS: Final = 120_000
"""By this much the office's clock may be ahead of ours."""
LONGEST_MS: Final = 24 * 3600 * 1000
"""Nothing may be ordered for longer: an old command must die by itself."""
KEEP_MS: Final = 7 * 24 * 3600 * 1000
"""A nonce is remembered for so long after its deadline: our clock may be set back."""
AT_ONCE: Final = 16
_RETRY_S: Final = 1.0
_SETTLE_S: Final = 5.0
_MINUTE_S: Final = 60.0
_ANSWERS_A_MINUTE: Final = 60
"""Refusals of soundly signed commands that are answered; more are counted only."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did. rows: one for each meter. cause: done or failed. sentence: for the person who asked."""

    rows: tuple[Event, ...]
    cause: str
    sentence: str


Action = Callable[[Command], Awaitable[Outcome]]
"""Carries one command out. Raises: MessageError when its args cannot be understood, before anything is done."""


class Commands:
    """See the module. `receive` takes deliveries, `run` answers; append: returns after the outbox's COMMIT."""

    def __init__(
        self,
        gateway: str,
        verifier: Verifier,
        nonces: Nonces,
        *,
        clock: Clock,
        actions: Mapping[str, Action],
        append: Callable[[Sequence[Row]], Awaitable[None]],
        refusals: Refusals,
        settle_s: float = _SETTLE_S,
    ) -> None:
        self._settle_s = settle_s
        self.counters = dict.fromkeys(("commands", "commands_done", "commands_failed", "commands_unknown"), 0)
        self._gateway = gateway
        self._verifier = verifier
        self._nonces = nonces
        self._clock = clock
        self._actions = actions
        self._append = append
        self._refusals = refusals
        self._ready = False
        self._minute, self._answers = clock.monotonic(), 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Answer what the last end cut off, then keep house until cancelled."""
        try:
            await self._open()
            while True:
                await self._clock.sleep(self._settle_s)
                self._refusals.settle()
                try:
                    self._nonces.forget(self._clock.now_ms())
                except OutboxError as error:
                    _log.warning("nonces cannot be tidied", why=error.message)
        finally:
            self._ready = False
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._nonces.close()

    def receive(self, delivery: Delivery) -> None:
        """Take one message from the topic `cmd`."""
        delivery.ack()  # what is refused needs no repeat, what is accepted stands on our disk
        try:
            command = self._checked(delivery)
            if command is not None:
                self._begin(command)
        except SignatureError as error:
            self._refusals.note("bad_signature", error.message)
        except MessageError as error:
            self._refusals.note("not_understood", error.message)

    def _checked(self, delivery: Delivery) -> Command | None:
        """Return a command that is ours, sound, in time and known. Raises: MessageError."""
        if delivery.retain:
            self._refusals.note("retained", "a retained command: it may be of any day")
            return None
        if not self._verifier:
            self._refusals.note("no_key", "a command came, and gateway.office_keys names no key to check it with")
            return None
        if len(delivery.payload) > MAX_COMMAND_BYTES:
            raise MessageError(f"a command of {len(delivery.payload)} bytes; {MAX_COMMAND_BYTES} are allowed")
        command = decode_command(self._verifier.open("command", delivery.payload))
        if command.gateway != self._gateway:
            self._refusals.note("other_gateway", f"command {command.nonce} is for gateway {command.gateway}")
            return None
        why = self._untimely(command)
        if why:
            self._refuse(command, "late" if self._clock.now_ms() > command.deadline else "not_yet", why)
            return None
        return command

    def _untimely(self, command: Command) -> str:
        now = self._clock.now_ms()
        if now > command.deadline:
            return f"its deadline passed {(now - command.deadline) / 1000:.0f} s ago"
        if command.issued_at > now + SKEW_MS:
            return f"it was issued {(command.issued_at - now) / 1000:.0f} s in the future: is our clock behind?"
        if command.deadline - command.issued_at > LONGEST_MS:
            raise MessageError(f"command {command.nonce} lives longer than a day")
        return ""

    def _begin(self, command: Command) -> None:
        action = self._actions.get(command.name)
        if action is None:
            known = ", ".join(sorted(self._actions))
            self._refuse(command, "unknown_command", f'this gateway knows no "{command.name}"; it knows {known}')
        elif len(self._tasks) >= AT_ONCE or not self._ready:
            self._refuse(command, "busy", f"{len(self._tasks)} commands are under way; try again")
        elif self._entered(command):
            self.counters["commands"] += 1
            self._spawn(self._carry_out(command, action))

    def _entered(self, command: Command) -> bool:
        """Put the nonce on disk; False, and told, when it was there or cannot be."""
        try:
            if self._nonces.begin(command.nonce, command.name, command.deadline + KEEP_MS):
                return True
        except OutboxError as error:  # what cannot be remembered could be done twice
            self._refuse(command, "busy", f"the nonce cannot be kept: {error.message}")
            return False
        self._refusals.note("replayed", f"command {command.nonce} came again")
        return False

    async def _carry_out(self, command: Command, action: Action) -> None:
        try:
            outcome = await action(command)
        except MessageError as error:
            self._refusals.note("not_understood", error.message)
            outcome = Outcome((), "refused", error.message)
        except MetergateError as error:
            outcome = Outcome((), "failed", str(error))
        except Exception as error:  # noqa: BLE001 (a bug in one command must not end the reading of meters)
            _log.exception("command failed", name=command.name, nonce=command.nonce)
            outcome = Outcome((), "failed", f"an error of ours: {type(error).__name__}")
        self.counters["commands_done" if outcome.cause == "done" else "commands_failed"] += 1
        await self._answer(command.nonce, outcome)

    async def _answer(self, nonce: str, outcome: Outcome) -> None:
        """Commit the rows, then cross the nonce off."""
        final = Event(
            kind="command_result", at=self._clock.now_ms(), cause=outcome.cause, text=told(nonce, outcome.sentence)
        )
        await self._keep((*outcome.rows, final))
        while True:
            try:
                self._nonces.end(nonce)
                return
            except OutboxError as error:
                _log.warning("a nonce cannot be crossed off", nonce=nonce, why=error.message)
                await self._clock.sleep(_RETRY_S)

    async def _keep(self, rows: Sequence[Row]) -> None:
        while True:
            try:
                await self._append(rows)
                return
            except OutboxError as error:
                _log.warning("no room for the result of a command", why=error.message)
                await self._clock.sleep(_RETRY_S)

    async def _open(self) -> None:
        while True:
            try:
                cut_off = self._nonces.open()
                break
            except OutboxError as error:
                _log.error("no command is taken before this is mended", why=error.message)
                await self._clock.sleep(_RETRY_S)
        self._ready = True
        for begun in cut_off:
            self.counters["commands_unknown"] += 1
            sentence = f"unknown: the gateway was started again while it did {begun.name}; it is not done again"
            await self._answer(begun.nonce, Outcome((), "unknown", sentence))

    def _refuse(self, command: Command, cause: str, why: str) -> None:
        """The office signed it, so it gets an answer, bounded: copies of an old command may come in a flood."""
        self._refusals.note(cause, f"command {command.nonce} ({command.name}): {why}")
        now = self._clock.monotonic()
        if now - self._minute >= _MINUTE_S:
            self._minute, self._answers = now, 0
        self._answers += 1
        if self._answers <= _ANSWERS_A_MINUTE:
            final = Event(
                kind="command_result", at=self._clock.now_ms(), cause="refused",
                text=told(command.nonce, f"{cause}: {why}"),
            )  # fmt: skip
            self._spawn(self._keep((final,)))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
