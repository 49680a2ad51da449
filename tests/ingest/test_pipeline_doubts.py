"""What ingest does not take as it is said: who says it, of which meter, at what time, with which values."""

from __future__ import annotations

import pytest

from metering.reading import Reading
from registry import validation_rules
from registry.roles import service
from tests.ingest.house import DAY, MINUTE, NOW, House, failed, raw, reading, up


def test_an_unknown_meter_is_quarantined_and_one_imported_meanwhile_is_stored_at_once(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M9", NOW, 5), reading("M1", NOW, 1)])])
        assert house.quarantine() == [("gw-1", "unknown_meter", 1)]
        house.install("M9", "gw-1")
        await house.pipeline.cycle([up(3, [reading("M9", NOW + 1, 6)])])
        assert ("M9", NOW + 1) in house.stored()
        assert house.position().spans == [(1, 3)]

    house.run(scenario)


def test_a_gateway_speaks_only_for_itself(house: House) -> None:
    async def scenario() -> None:
        foreign = up(1, [reading("M3", NOW, 5)], gateway="gw-2").payload
        on_their_topic = raw(foreign, gateway="gw-1")
        await house.pipeline.cycle([on_their_topic, up(1, [reading("M3", NOW, 6), failed("M3", NOW)])])
        assert house.stored() == {}
        assert [reason for _, reason, _ in house.quarantine()] == [
            "message_foreign_gateway",
            "foreign_meter",
            "foreign_meter",
        ]
        assert house.events("security") == [("gw-1", "foreign_gateway"), ("gw-1", "foreign_meter")]
        assert [(gateway, ack.upto) for gateway, ack in house.sent.acks] == [("gw-1", 2)]
        assert on_their_topic._done

    house.run(scenario)


def test_a_meter_that_moves_to_another_gateway_is_heard_there_at_once(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        with house.database.begin() as connection:
            connection.exec_driver_sql("UPDATE meter SET gateway_id = 'gw-2' WHERE id = 'M1'")
        await house.pipeline.cycle([up(1, [reading("M1", NOW + 1, 6)], gateway="gw-2")])
        assert ("M1", NOW + 1) in house.stored()
        await house.pipeline.cycle([up(2, [reading("M1", NOW + 2, 7)])])
        assert ("M1", NOW + 2) not in house.stored()

    house.run(scenario)


def test_a_reload_takes_over_new_and_removed_meters(house: House) -> None:
    async def scenario() -> None:
        house.install("M9", "gw-1")
        with house.database.begin() as connection:
            connection.exec_driver_sql("UPDATE meter SET gateway_id = NULL WHERE id = 'M2'")  # read by hand now
            connection.exec_driver_sql("DELETE FROM installation WHERE meter_id = 'M3'")
            connection.exec_driver_sql("DELETE FROM meter WHERE id = 'M3'")
        await house.pipeline.reload()
        states = house.pipeline.meters.states
        owners = {meter: state.gateway for meter, state in states.items()}
        assert owners == {"M1": "gw-1", "M2": "office", "M9": "gw-1"}
        await house.pipeline.cycle([up(1, [reading("M2", NOW, 5), reading("M3", NOW, 5)])])
        assert house.quarantine() == [("gw-1", "foreign_meter", 1), ("gw-1", "unknown_meter", 2)]

    house.run(scenario)


def test_retained_and_misplaced_messages_are_refused_and_reported(house: House) -> None:
    payload = up(1, [reading("M1", NOW, 5)]).payload
    strange = "mg/v1/" + "x" * 60_000

    async def scenario() -> None:
        deliveries = [
            raw(payload, retain=True),
            raw(payload + b" ", name="mg/v1/63/gw-1/up"),
            raw(payload + b"  ", name=strange),
            raw(payload + b"   ", name="mg/v1/0//up"),
        ]
        await house.pipeline.cycle(deliveries)
        assert house.stored() == {}
        assert [reason for _, reason, _ in house.quarantine()] == ["message_retained"] + ["message_topic"] * 2
        assert house.events("security") == [
            ("gw-1", "retained"),
            ("", "topic"),
            ("", "topic"),
            ("", "unknown_gateway"),
        ]
        assert house.sent.acks == []
        assert all(delivery._done for delivery in deliveries)

    house.run(scenario)


def test_an_unknown_gateway_gets_no_answer_until_the_registry_knows_it(house: House) -> None:
    async def scenario() -> None:
        delivery = up(1, [reading("M9", NOW, 5)], gateway="gw-9")
        await house.pipeline.cycle([delivery])
        assert house.sent.acks == []
        assert house.quarantine() == []
        assert house.events("security") == [("gw-9", "unknown_gateway")]
        with house.database.begin() as connection:
            connection.exec_driver_sql("INSERT INTO gateway (id, name, district) VALUES ('gw-9', '', '')")
        house.install("M9", "gw-9")
        await house.pipeline.cycle([up(1, [reading("M9", NOW, 5)], gateway="gw-9")])
        assert house.stored() == {("M9", NOW): {"volume": 5}}
        assert [(gateway, ack.upto) for gateway, ack in house.sent.acks] == [("gw-9", 1)]

    house.run(scenario)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (0, "time_past"),
        (946_684_800_000, "time_past"),
        (4_291_747_200_000, "time_future"),
        (NOW + 10 * MINUTE, "time_future"),
        (NOW + 3653 * DAY, "time_future"),
        (NOW // 1000, "time_unit"),
    ],
)
def test_an_implausible_time_is_quarantined_and_never_stored(house: House, at: int, reason: str) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", at, 5), reading("M1", NOW, 6)])])
        assert house.stored() == {("M1", NOW): {"volume": 6}}
        assert house.quarantine() == [("gw-1", reason, 1)]
        await house.pipeline.flush()
        assert house.latest()["M1"][0] == NOW

    house.run(scenario)


def test_a_reading_slightly_ahead_is_kept_as_suspect(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW + 2 * MINUTE, 5)])])
        stored = house.store.get([("M1", NOW + 2 * MINUTE)])["M1", NOW + 2 * MINUTE]
        assert (stored.quality, stored.reason) == ("suspect", "time_ahead")

    house.run(scenario)


def test_a_meter_clock_that_stands_still_or_is_far_off_is_kept_as_suspect(house: House) -> None:
    def said(*offsets: tuple[int, int]) -> list[Reading]:
        """(minutes before now, minutes at which the meter's clock stood)."""
        return [
            Reading("M1", NOW - ago * MINUTE, {"volume": 5}, meter_time=NOW - clock * MINUTE)
            for ago, clock in offsets
        ]

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, said((300, 300), (290, 300)))])  # ten minutes: a display may do that
        await house.pipeline.cycle([up(3, said((240, 300), (230, 231)))])  # an hour; then it goes on
        await house.pipeline.cycle([up(5, said((220, 281), (210, 270)))])  # 61 minutes late; then 60
        keys = [("M1", NOW - ago * MINUTE) for ago in (300, 290, 240, 230, 220, 210)]
        marks = [(stored.quality, stored.reason) for _, stored in sorted(house.store.get(keys).items())]
        assert marks == [
            ("valid", ""), ("valid", ""), ("suspect", "clock_frozen"), ("valid", ""), ("suspect", "clock_off"),
            ("valid", ""),
        ]  # fmt: skip

    house.run(scenario)


def test_a_rule_of_the_registry_judges_clocks_from_its_date_on(house: House) -> None:
    async def scenario() -> None:
        with house.database.begin() as connection:
            for name, limits in (("clock_off", {"most_s": 60}), ("clock_frozen", {})):
                validation_rules.change_rule(
                    connection, service("test"), name, valid_from=NOW - 5 * MINUTE, limits=limits,
                    active=name == "clock_off", reason="a trial", now=NOW - 10 * MINUTE,
                )  # fmt: skip
        await house.pipeline.reload()
        old = Reading("M1", NOW - 6 * MINUTE, {"volume": 5}, meter_time=NOW - 4 * MINUTE)
        new = Reading("M1", NOW - 4 * MINUTE, {"volume": 5}, meter_time=NOW - 2 * MINUTE)
        await house.pipeline.cycle([up(1, [old, new])])
        found = house.store.get([("M1", NOW - 6 * MINUTE), ("M1", NOW - 4 * MINUTE)])
        assert [found[key].reason for key in sorted(found)] == ["", "clock_off"]

    house.run(scenario)


def test_values_that_no_store_can_hold_and_marked_values_are_quarantined(house: House) -> None:
    async def scenario() -> None:
        rows = [
            reading("M1", NOW, 123_456_789_012_345_678),
            Reading("M1", NOW, {}),
            reading("M1", NOW, 5, quality="edited"),
            reading("M1", NOW, 5, quality="estimated"),
            reading("M1", NOW, 5, source="estimate"),
            reading("M1", NOW, 10**18),
            reading("M1", NOW + 1, 5, quality="manual", source="manual"),
        ]
        await house.pipeline.cycle([up(1, rows)])
        reasons = [reason for _, reason, _ in house.quarantine()]
        assert reasons == ["value_digits", "no_values", "edited", "estimate", "estimate"]
        assert house.stored() == {("M1", NOW): {"volume": 10**18}, ("M1", NOW + 1): {"volume": 5}}

    house.run(scenario)
