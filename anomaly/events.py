"""Which step between two indexes is an event, and the rule that tells of it."""

from __future__ import annotations

from typing import Final

from metering.steps import Step

EVENT_RULES: Final = {
    Step.TRANSIENT: "spike",
    Step.UNIT_CHANGE: "unit_error",
    Step.ROLLOVER: "rollover",
    Step.EXCHANGE: "exchange",
    Step.RESET: "exchange",
    Step.OVER_RANGE: "exchange",
}
CODES_OF: Final = {
    rule: frozenset(step for step, name in EVENT_RULES.items() if name == rule) for rule in EVENT_RULES.values()
}
