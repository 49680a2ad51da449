"""The words of work orders, with the terms that slips and screens print beside them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class OrderType(StrEnum):
    """What the crew is sent for."""

    LEAK_VISIT = "leak_visit"
    METER_INSPECTION = "meter_inspection"
    METER_TEST = "meter_test"
    METER_EXCHANGE = "meter_exchange"
    READ_AGAIN = "read_again"
    CLOSE_VALVE = "close_valve"
    SEAL = "seal"
    CONTRACT_CHECK = "contract_check"
    COMMUNICATION_REPAIR = "communication_repair"
    SAFETY_INSPECTION = "safety_inspection"
    RECTIFICATION = "rectification"


class Priority(StrEnum):
    """How soon, as chosen at acceptance. The order of the members is the order of urgency."""

    WAIT = "wait"
    APPOINTMENT = "appointment"
    SOON = "soon"
    URGENT = "urgent"


class Result(StrEnum):
    """What a visit ended with."""

    PASSED = "passed"
    NOT_PASSED = "not_passed"
    UNFINISHED = "unfinished"
    CANNOT_BE_DONE = "cannot_be_done"
    CANCELLED = "cancelled"


class Opens(StrEnum):
    """Whether a finding sends somebody by itself, or asks a dispatcher first."""

    ITSELF = "itself"
    PROPOSED = "proposed"


URGENCY: Final = {priority: place for place, priority in enumerate(Priority)}

CHINESE: Final = {
    OrderType.LEAK_VISIT: "漏气抢修",
    OrderType.METER_INSPECTION: "表具检查",
    OrderType.METER_TEST: "校表",
    OrderType.METER_EXCHANGE: "换表",
    OrderType.READ_AGAIN: "复抄",
    OrderType.CLOSE_VALVE: "关阀",
    OrderType.SEAL: "封表",
    OrderType.CONTRACT_CHECK: "合同核查",
    OrderType.COMMUNICATION_REPAIR: "通信维修",
    OrderType.SAFETY_INSPECTION: "安检",
    OrderType.RECTIFICATION: "隐患整改",
    Priority.WAIT: "等待安排",
    Priority.APPOINTMENT: "按照约定",
    Priority.SOON: "尽快安排",
    Priority.URGENT: "加急安排",
    Result.PASSED: "合格",
    Result.NOT_PASSED: "不合格",
    Result.UNFINISHED: "未完成",
    Result.CANNOT_BE_DONE: "无法实施",
    Result.CANCELLED: "取消",
}


def both(word: OrderType | Priority | Result) -> str:
    """Return a word in both languages: "leak visit 漏气抢修"."""
    return f"{word.value.replace('_', ' ')} {CHINESE[word]}"
