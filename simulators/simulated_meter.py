"""One meter of the farm: a curve, what happens behind it, its registers and its faults."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from metering.quantities import MICRO, Quantity
from simulators.answer_log import asked_columns
from simulators.consumption import CountingCurve, Curve, make_curve
from simulators.farm_settings import FaultSettings, FlagName, FlowSettings, MeterSettings, flag_bits
from simulators.faults import CONTENT, Fault, exception
from simulators.register_image import Block, RegisterImage

_REFRESH_MS: Final = 1_000
"""Pressure, temperature, voltages and flow are renewed this often; the index with every answer."""


class Log(Protocol):
    """Where answers are noted."""

    def add(self, at_ms: int, asked: str, index: int | None, outcome: str = "ok") -> None:
        """Note one answer."""


@dataclass(frozen=True, slots=True)
class Late:
    """Send nothing now; after `seconds` ask `answer_now` for the bytes."""

    seconds: float
    answer_now: Callable[[int], bytes]


class Hangup:
    """Close the connection instead of answering."""


HANGUP: Final = Hangup()
Reply = bytes | Late | Hangup
"""b"" is silence."""

SideValues = Callable[[int, int, int], dict[Quantity, int]]
"""(index, flow, t_ms) -> the quantities beside the index, all in 10⁻⁶ of their house units."""


_Known = tuple[Block, str, bytearray]
"""A request that came before: what it asks, the log's columns for it, and the bytes it is cut from."""


class SimulatedMeter:
    """Answers read requests; everything that depends on time gets it as an argument [ms UTC]."""

    def __init__(
        self,
        settings: MeterSettings,
        image: RegisterImage,
        side_values: SideValues,
        *,
        seed: int,
        log: Log,
        curve: Curve | None = None,
    ) -> None:
        """curve: instead of the one that the settings name."""
        self.settings = settings
        self._image = image
        self._side_values = side_values
        self._log = log
        self._rng = random.Random(zlib.crc32(settings.meter.encode()) ^ seed)
        self._curve = curve or make_curve(
            settings.curve, seed=seed, meter=settings.meter, start_index=settings.start_index, step=image.step
        )
        self._flow: FlowSettings | None = None
        self._anchor_ms = self._anchor = self._anchor_curve = 0
        self._fault: Fault | None = None
        self._blocks: dict[bytes, _Known] = {}
        self._refresh_at = -1
        self._has_shown = False
        self._flags = flag_bits(settings.flags)
        if settings.fault:
            self.set_fault(settings.fault)

    @property
    def is_sick(self) -> bool:
        """True while a fault is switched on."""
        return self._fault is not None

    def set_fault(self, fault: FaultSettings | None) -> None:
        """Switch a fault on, or off with None."""
        self._fault = Fault(fault, self._rng) if fault else None
        self._refresh_at = -1

    def set_flags(self, names: Iterable[FlagName]) -> None:
        """Let the meter report these states of itself, as far as its registers can."""
        self._flags = flag_bits(names)
        self._refresh_at = -1

    def set_flow(self, flow: FlowSettings | None, now_ms: int) -> None:
        """Let something happen behind the meter from now on or since its `since_ms`; its index goes on from there."""
        if flow is not None and flow.since_ms is not None:
            now_ms = flow.since_ms
        self._anchor = self._index(now_ms)
        self._anchor_ms = now_ms
        self._anchor_curve = self._curve.index(now_ms)
        self._flow = flow or FlowSettings(kind="normal")

    def set_index(self, micro: int, now_ms: int) -> None:
        """Let the index jump, as after a meter exchange or a reset."""
        self.set_flow(self._flow, now_ms)
        self._anchor = micro

    def index_at(self, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units] without its counter's digits."""
        return self._index(t_ms)

    def keeper(self, what: str) -> Callable[[int], None]:
        """Return what puts fault, flow or flags back to what they are now; it is called with the time [ms UTC]."""
        fault, flow, flags = self._fault, self._flow, self._flags

        def put_back(now_ms: int) -> None:
            if what == "fault":
                self._fault = fault
            elif what == "flow":
                self.set_flow(flow, now_ms)
            else:
                self._flags = flags
            self._refresh_at = -1

        return put_back

    def shown_at(self, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units] that it would have shown at `t_ms`, with its counter's digits."""
        return self.shown(self._index(t_ms))

    def shown(self, index: int) -> int:
        """Return what its register shows of an index [10⁻⁶ house units]."""
        return self._image.show_index(index)

    def answer(self, frame: bytes, now_ms: int) -> Reply:
        """Answer one whole MBAP request."""
        if self._fault is not None:
            return self._answer_sick(frame, now_ms)
        return self._answer_well(frame, now_ms, "ok")

    def _answer_well(self, frame: bytes, now_ms: int, outcome: str) -> bytes:
        known = self._blocks.get(frame[6:]) or self._understand(frame[6:])
        if isinstance(known, int):
            return self._refuse(frame, known, now_ms)
        block, asked, space = known
        index = self._fill(block, now_ms)
        self._log.add(now_ms, asked, index, outcome)
        return frame[:2] + block.head + space[block.begin : block.end]

    def _answer_sick(self, frame: bytes, now_ms: int) -> Reply:
        fault = self._fault
        if fault is None or not fault.hits():
            if fault is not None and fault.over:
                self.set_fault(None)
            return self._answer_well(frame, now_ms, "ok")
        kind = fault.settings.kind
        if kind == "late":
            return Late(fault.settings.seconds, lambda later_ms: self._answer_well(frame, later_ms, "late"))
        if kind == "close":
            return HANGUP
        known = self._blocks.get(frame[6:]) or self._understand(frame[6:])
        if isinstance(known, int) and kind != "silent":
            return self._refuse(frame, known, now_ms)
        return b"" if isinstance(known, int) else self._answer_wrongly(frame, known, now_ms, fault)

    def _answer_wrongly(self, frame: bytes, known: _Known, now_ms: int, fault: Fault) -> bytes:
        """Answer with wrong content or damaged bytes; the log shows an index only where one can be read."""
        block, asked, space = known
        kind = fault.settings.kind
        if kind == "freeze" and self._has_shown:
            index: int | None = self._image.index
        else:
            index = self._fill(block, now_ms)
        if kind in CONTENT and kind != "freeze" and block.holds_index:
            index = self._image.show_content(kind)
        answer = fault.spoil(frame[:2] + block.head + bytes(space[block.begin : block.end]))
        if answer:
            readable = kind in CONTENT and block.holds_index
            self._log.add(now_ms, asked, index if readable else None, kind)
        return answer

    def _refuse(self, frame: bytes, code: int, now_ms: int) -> bytes:
        unit, function = frame[6], frame[7] if len(frame) > 7 else 0
        start, count = (frame[8] << 8 | frame[9], frame[10] << 8 | frame[11]) if len(frame) == 12 else (0, 0)
        asked = asked_columns(self.settings.meter, unit, function, start, count)
        self._log.add(now_ms, asked, None, f"exception_{code:02}")
        return exception(frame[:7], function, code)

    def _understand(self, request: bytes) -> _Known | int:
        """Work a request (unit and PDU) out once; the requests of a poll plan repeat for years."""
        block = self._image.block(request[0], request[1:])
        if isinstance(block, int):
            return block
        asked = asked_columns(self.settings.meter, request[0], block.function, block.start, block.count)
        known = (block, asked, self._image.space(block.function))
        if len(self._blocks) < 1_000:  # a scan of all addresses must not fill the memory
            self._blocks[request] = known
        return known

    def _fill(self, block: Block, now_ms: int) -> int | None:
        """Bring the registers up to now; return the index that a block holds."""
        if now_ms >= self._refresh_at:
            self._refresh(now_ms)
        if not block.holds_index:
            return None
        self._has_shown = True
        return self._image.show_index(self._index(now_ms))

    def _refresh(self, now_ms: int) -> None:
        counting = isinstance(self._curve, CountingCurve)
        index = self._image.index if counting else self._index(now_ms)
        self._image.show(self._side_values(index, self._rate(now_ms), now_ms))
        self._image.show_flags(self._flags)
        self._refresh_at = now_ms + _REFRESH_MS

    def _index(self, now_ms: int) -> int:
        flow = self._flow
        if flow is None or (flow.since_ms is not None and now_ms < flow.since_ms):
            return self._curve.index(now_ms)
        leaked = round(flow.rate * MICRO) * (now_ms - self._anchor_ms) // 3_600_000
        if flow.kind == "zero":
            return self._anchor
        used = self._curve.index(now_ms) - self._anchor_curve
        if flow.kind == "reverse":
            return max(0, self._anchor - (leaked or used))
        return self._anchor + used + (leaked if flow.kind == "leak" else 0)

    def _rate(self, now_ms: int) -> int:
        flow = self._flow
        rate = self._curve.flow(now_ms)
        if flow is None or flow.kind == "normal":
            return rate
        extra = round(flow.rate * MICRO)
        return {"zero": 0, "leak": rate + extra, "reverse": -(extra or rate)}[flow.kind]
