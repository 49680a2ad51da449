"""Plans that come by broker: believed when signed, taken when newer and sound, on the disk before they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gateway.plan import Plan
from gateway.plan_store import check_plan, keep, open_plan, stored_path
from gateway.profiles import load_profiles
from gateway.refusals import Refusals
from gateway.settings import GatewaySettings
from metering.clock import Clock
from metering.errors import MessageError, MetergateError
from metering.messages import MAX_PLAN_BYTES, SignedPlan
from metering.mqtt import Delivery
from metering.reading import Event
from metering.signing import SignatureError, Verifier

_log = structlog.get_logger(__name__)


class PlanIntake:
    """See the module. `receive` takes deliveries, `run` works on the newest; adopt: goes on by a new plan."""

    def __init__(
        self,
        settings: GatewaySettings,
        verifier: Verifier,
        *,
        clock: Clock,
        current: Callable[[], Plan],
        adopt: Callable[[Plan], None],
        tell: Callable[[Event], object],
        refusals: Refusals,
    ) -> None:
        self.counters = dict.fromkeys(("plans", "plans_old", "plans_refused"), 0)
        self._settings = settings
        self._verifier = verifier
        self._clock = clock
        self._current = current
        self._adopt = adopt
        self._tell = tell
        self._refusals = refusals
        self._payload = b""
        self._came = asyncio.Event()
        self._refused_version = 0

    def receive(self, delivery: Delivery) -> None:
        """Take one message from the topic `plan`; the last one counts."""
        delivery.ack()
        if delivery.payload:  # an empty one takes the retained plan away, not ours
            self._payload = delivery.payload
            self._came.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._came.wait()
            self._came.clear()
            try:
                await self._take(self._payload)
            except SignatureError as error:
                self._refusals.note("bad_signature", f"a plan: {error.message}")
            except MessageError as error:
                self._refusals.note("not_understood", f"a plan: {error.message}")

    async def _take(self, payload: bytes) -> None:
        """Raises: SignatureError, MessageError."""
        if not self._verifier:
            self._refusals.note("no_key", "a plan came, and gateway.office_keys names no key to check it with")
            return
        if len(payload) > MAX_PLAN_BYTES:
            raise MessageError(f"a plan of {len(payload)} bytes; {MAX_PLAN_BYTES} are allowed")
        signed = open_plan(payload, self._verifier)
        now = self._current()
        if signed.gateway != now.gateway:
            self._refusals.note("other_gateway", f"a plan for gateway {signed.gateway}")
            return
        if signed.version <= now.version:
            self.counters["plans_old"] += signed.version < now.version
            return
        await self._take_newer(signed, payload)

    async def _take_newer(self, signed: SignedPlan, payload: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:  # thousands of meters take a second to check; polling goes on meanwhile
            plan = await loop.run_in_executor(None, self._checked, signed)
            await loop.run_in_executor(None, keep, stored_path(self._settings), payload)
        except (MetergateError, OSError) as error:
            self._refuse(signed, str(error))
            return
        before = self._current().version
        self._adopt(plan)
        self.counters["plans"] += 1
        said = f"plan {plan.version} is in force, before it {before}"
        _log.info("plan taken", version=plan.version, before=before)
        self._tell(Event(kind="plan", at=self._clock.now_ms(), cause="accepted", text=said))

    def _checked(self, signed: SignedPlan) -> Plan:
        return check_plan(signed, load_profiles(*self._settings.profiles), self._settings.over_dense)

    def _refuse(self, signed: SignedPlan, why: str) -> None:
        """Once for each version: the retained plan comes again with every connection."""
        self.counters["plans_refused"] += 1
        if signed.version == self._refused_version:
            return
        self._refused_version = signed.version
        text = f"plan {signed.version} is refused: {why}"[:500].encode("utf-8", "replace").decode()
        _log.warning("plan refused", version=signed.version, why=why)
        self._tell(Event(kind="plan", at=self._clock.now_ms(), cause="refused", text=text))
