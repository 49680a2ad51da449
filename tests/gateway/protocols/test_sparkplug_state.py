"""What a host remembers of an edge node: births, aliases, gaps, deaths."""

from __future__ import annotations

from decimal import Decimal

from gateway.protocols import sparkplug_b, sparkplug_births
from gateway.protocols.sparkplug_b import Metric, Payload, Topic, Value
from gateway.protocols.sparkplug_state import EdgeNode, Outcome, SeqWatch

NBIRTH, NDATA, NDEATH = (Topic("gas", kind, "gw1") for kind in ("NBIRTH", "NDATA", "NDEATH"))
DBIRTH, DDATA, DDEATH = (Topic("gas", kind, "gw1", "m1") for kind in ("DBIRTH", "DDATA", "DDEATH"))


def _volume(value: str, *, alias: int | None = 5, bare: bool = True, at: int = 2000, late: bool = False) -> Metric:
    return sparkplug_births.metric(
        "volume", "Double", Decimal(value), timestamp=at, alias=alias, bare=bare, historical=late
    )


def _born(bd_seq: int = 3) -> EdgeNode:
    node = EdgeNode()
    assert node.apply(NBIRTH, sparkplug_births.node_birth(bd_seq, (), timestamp=1000)).rebirth == ""
    assert node.apply(DBIRTH, Payload(1001, (_volume("1", bare=False),), 1)).kind == "birth"
    return node


def _values(outcome: Outcome) -> list[tuple[str, Value]]:
    return [(metric.name, metric.value) for metric in outcome.metrics]


def test_alias_alone_is_named_by_the_birth() -> None:
    node = _born()
    outcome = node.apply(DDATA, Payload(2000, (_volume("12.5"),), 2))
    assert _values(outcome) == [("volume", Decimal("12.5"))]
    assert (outcome.missing, outcome.rebirth, outcome.metrics[0].timestamp) == (0, "", 2000)


def test_seq_is_shared_by_node_and_devices_and_wraps_at_255() -> None:
    node = _born()
    for number in range(2, 600):
        topic = DDATA if number % 3 else NDATA
        outcome = node.apply(topic, Payload(2000 + number, (), number % 256))
        assert (outcome.missing, outcome.rebirth) == (0, "")


def test_gap_asks_for_a_rebirth_and_trusts_no_alias_until_then() -> None:
    node = _born()
    outcome = node.apply(DDATA, Payload(2000, (_volume("2"), _volume("3", alias=None, bare=False)), 5))
    assert outcome.missing == 3  # 2, 3 and 4
    assert "3 messages are missing" in outcome.rebirth
    assert _values(outcome) == [("volume", Decimal(3))], "only the metric that brings its name"
    assert outcome.unresolved == 1
    later = node.apply(DDATA, Payload(2001, (_volume("4"),), 6))
    assert (later.missing, later.unresolved) == (0, 1)
    node.apply(NBIRTH, sparkplug_births.node_birth(3, (), timestamp=3000))
    node.apply(DBIRTH, Payload(3001, (_volume("5", bare=False),), 1))
    assert _values(node.apply(DDATA, Payload(3002, (_volume("6"),), 2))) == [("volume", Decimal(6))]


def test_data_before_a_birth_ask_for_one() -> None:
    node = EdgeNode()
    assert node.apply(DDATA, Payload(1, (_volume("1"),), 9)).rebirth
    node.apply(NBIRTH, sparkplug_births.node_birth(0, (), timestamp=1))
    outcome = node.apply(DDATA, Payload(2, (_volume("1"),), 1))
    assert outcome.rebirth == "data of a device before its birth"
    assert outcome.metrics == ()


def test_unknown_alias_and_another_devices_alias_are_not_guessed() -> None:
    node = _born()
    other = Topic("gas", "DDATA", "gw1", "m2")
    node.apply(Topic("gas", "DBIRTH", "gw1", "m2"), Payload(1002, (), 2))
    outcome = node.apply(other, Payload(1003, (_volume("9"),), 3))
    assert (outcome.metrics, outcome.unresolved) == ((), 1)
    assert outcome.rebirth == "an alias that no birth has named"
    assert node.apply(DDATA, Payload(1004, (_volume("9", alias=77),), 4)).unresolved == 1


def test_same_message_twice_is_no_gap_of_255() -> None:
    node = _born()
    message = Payload(2000, (_volume("2"),), 2)
    assert node.apply(DDATA, message).kind == "data"
    again = node.apply(DDATA, message)
    assert (again.kind, again.missing, again.rebirth) == ("ignored", 0, "")
    assert node.apply(DDATA, Payload(2001, (), 3)).missing == 0


def test_historical_values_are_marked() -> None:
    node = _born()
    outcome = node.apply(DDATA, Payload(5000, (_volume("2", at=1500, late=True), _volume("3", at=5000)), 2))
    assert [(m.timestamp, m.historical) for m in outcome.metrics] == [(1500, True), (5000, False)]


def test_death_of_an_earlier_session_comes_late_and_is_ignored() -> None:
    node = _born(bd_seq=4)
    assert node.apply(NDEATH, sparkplug_births.node_death(3)).kind == "ignored"
    assert node.apply(DDATA, Payload(1, (), 2)).rebirth == ""
    assert node.apply(NDEATH, sparkplug_births.node_death(4)).kind == "death"
    assert node.apply(DDATA, Payload(2, (), 3)).rebirth == "a message before the birth"


def test_dead_device_must_be_born_again() -> None:
    node = _born()
    assert node.apply(DDEATH, Payload(2000, (), 2)).kind == "death"
    assert node.apply(DDATA, Payload(2001, (_volume("1"),), 3)).rebirth == "data of a device before its birth"


def test_message_without_seq_or_with_a_value_that_does_not_fit_is_told() -> None:
    node = _born()
    assert node.apply(DDATA, Payload(2000, (), None)).rebirth == "a message without seq"
    wrong = Metric(alias=5, raw=(sparkplug_b.INT_FIELD, 7))
    (metric,) = node.apply(DDATA, Payload(2000, (wrong,), 2)).metrics
    assert (metric.value, metric.name) == (None, "volume")
    assert "Double" in metric.problem
    (null,) = node.apply(DDATA, Payload(2001, (Metric(alias=5, null=True),), 3)).metrics
    assert (null.value, null.problem, null.timestamp) == (None, "", 2001)


def test_commands_and_states_change_nothing() -> None:
    node = _born()
    command = node.apply(Topic("gas", "NCMD", "gw1"), sparkplug_births.rebirth_command(timestamp=1))
    assert command.kind == "ignored"
    assert node.apply(DDATA, Payload(2000, (), 2)).missing == 0


def test_seq_watch_counts_what_is_missing() -> None:
    watch = SeqWatch()
    assert watch.missing(17) == 0, "the first number is taken as it is"
    assert [watch.missing(n) for n in (18, 20, 255, 0, 0)] == [0, 1, 234, 0, 255]
