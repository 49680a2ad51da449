"""The way of a reading through ingest, with a real registry and a real store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from metering.errors import RegistryError, StoreError
from metering.messages import Up, encode, payload_digest
from metering.mqtt import Delivery
from metering.reading import Event, Reading, Row
from metering.store import ReadingStore
from registry import validation_rules
from registry.roles import service
from tests.ingest.house import EPOCH, NOW, House, failed, raw, reading, up

MINUTE = 60_000
HOUR = 3_600_000
DAY = 86_400_000


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def test_a_reading_is_stored_accounted_for_acknowledged_and_announced(house: House) -> None:
    async def scenario() -> None:
        delivery = up(1, [reading("M1", NOW - 500, 5), failed("M2", NOW - 400), reading("M2", NOW, 7)])
        await house.pipeline.cycle([delivery])
        assert house.stored() == {("M1", NOW - 500): {"volume": 5}, ("M2", NOW): {"volume": 7}}
        assert house.store.get([("M1", NOW - 500)])["M1", NOW - 500].received_at == NOW
        assert house.events("read_failed") == [("gw-1", "timeout")]
        position = house.position()
        assert (position.spans, position.stored, position.events) == ([(1, 3)], 2, 1)
        (gateway, ack), *more = house.sent.acks
        assert (gateway, ack.epoch, ack.upto, ack.missing, more) == ("gw-1", EPOCH, 3, [], [])
        assert delivery._done
        assert house.latest() == {}
        await house.pipeline.flush()
        assert house.latest() == {"M1": (NOW - 500, {"volume": 5}), "M2": (NOW, {"volume": 7})}
        assert house.closings() == {("M1", "2026-03-01"): (NOW - 500, 5), ("M2", "2026-03-01"): (NOW, 7)}
        (notice,) = house.sent.notices
        assert (sorted(notice.meters), notice.t0, notice.t1) == (["M1", "M2"], NOW - 500, NOW)

    house.run(scenario)


def test_the_same_message_again_is_acknowledged_again_and_changes_nothing(house: House) -> None:
    async def scenario() -> None:
        rows: list[Row] = [reading("M1", NOW, 5), failed("M1", NOW), reading("nobody", NOW, 1)]
        for _ in range(3):
            await house.clock.advance(60)  # whatever is stamped with our time must not make it another row
            await house.pipeline.cycle([up(1, rows), up(1, rows)])
        assert house.stored() == {("M1", NOW): {"volume": 5}}
        assert len(house.events("read_failed")) == len(house.quarantine()) == 1
        position = house.position()
        assert (position.stored, position.events, position.quarantined) == (1, 1, 1)
        assert position.duplicates == 5 * 3
        assert [ack.upto for _, ack in house.sent.acks] == [3, 3, 3]

    house.run(scenario)


def test_a_differing_value_never_overwrites(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        await house.pipeline.cycle([up(2, [reading("M1", NOW, 6), reading("M1", NOW - 1, 4)])])
        await house.pipeline.cycle([up(4, [reading("M1", NOW - 1, 3)])])
        assert house.stored() == {("M1", NOW): {"volume": 5}, ("M1", NOW - 1): {"volume": 4}}
        assert house.quarantine() == [("gw-1", "conflict", 2), ("gw-1", "conflict", 4)]
        assert b'"volume":6' in house.quarantined_bytes()[0]
        assert house.position().spans == [(1, 4)]

    house.run(scenario)


def test_a_differing_value_inside_one_batch_never_overwrites(house: House) -> None:
    async def scenario() -> None:
        rows = [reading("M1", NOW, 5), reading("M1", NOW, 6), reading("M1", NOW - 9, 1), reading("M1", NOW - 9, 2)]
        await house.pipeline.cycle([up(1, rows)])
        assert house.stored() == {("M1", NOW): {"volume": 5}, ("M1", NOW - 9): {"volume": 1}}
        assert [seq for _, _, seq in house.quarantine()] == [2, 4]

    house.run(scenario)


def test_new_quantities_of_a_key_are_added_and_the_doubt_stays(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        await house.pipeline.flush()
        more = Reading("M1", NOW, {"flow": 3, "volume": 5}, quality="suspect", reason="jump")
        both = Reading("M1", NOW, {"volume": 9, "pressure": 8})
        await house.pipeline.cycle([up(2, [more, both])])
        stored = house.store.get([("M1", NOW)])["M1", NOW]
        assert stored.values == {"volume": 5, "flow": 3, "pressure": 8}
        assert (stored.quality, stored.reason) == ("suspect", "jump")
        assert house.quarantine() == [("gw-1", "conflict", 3)]
        await house.pipeline.flush()
        assert house.latest()["M1"] == (NOW, {"volume": 5, "flow": 3, "pressure": 8})
        assert house.position().stored == 2

    house.run(scenario)


def test_backlog_never_becomes_latest_and_closes_its_own_days(house: House) -> None:
    midnight = NOW - 8 * HOUR  # 2026-03-01 00:00 in Shanghai

    async def scenario() -> None:
        await house.pipeline.cycle([up(10, [reading("M1", NOW, 100)])])
        await house.pipeline.flush()
        backlog = [
            reading("M1", midnight - DAY - 1, 10),
            reading("M1", midnight - HOUR, 20),
            reading("M1", midnight, 30),  # midnight closes the day before
            reading("M1", midnight + 1, 40),
            reading("M1", midnight - 2 * HOUR, 19),
        ]
        await house.pipeline.cycle([up(1, backlog), up(11, [reading("M1", NOW + 1, 101)])])
        await house.pipeline.flush()
        assert house.latest()["M1"] == (NOW + 1, {"volume": 101})
        assert house.closings() == {
            ("M1", "2026-02-27"): (midnight - DAY - 1, 10),
            ("M1", "2026-02-28"): (midnight, 30),
            ("M1", "2026-03-01"): (NOW + 1, 101),
        }
        assert house.position().spans == [(1, 5), (10, 11)]
        assert house.sent.acks[-1][1].missing == [(6, 9)]

    house.run(scenario)


def test_a_bad_row_is_kept_raw_counts_as_accounted_and_its_neighbours_go_on(house: House) -> None:
    async def scenario() -> None:
        good = up(1, [reading("M1", NOW, 5), reading("M1", NOW + 1, 6), reading("M2", NOW, 7)])
        await house.pipeline.cycle([raw(good.payload.replace(b'"volume":6', b'"volume":6,"volume":66'))])
        assert house.stored() == {("M1", NOW): {"volume": 5}, ("M2", NOW): {"volume": 7}}
        assert house.quarantine() == [("gw-1", "duplicate_key", 2)]
        assert b'{"volume":6,"volume":66}' in house.quarantined_bytes()[0]
        assert house.sent.acks[-1][1].upto == 3
        position = house.position()
        assert (position.stored, position.quarantined) == (2, 1)

    house.run(scenario)


def test_a_message_without_a_number_is_kept_raw_and_answered(house: House) -> None:
    async def scenario() -> None:
        broken = up(1, [reading("M1", NOW, 5)]).payload[:-3]
        delivery = raw(broken)
        await house.pipeline.cycle([delivery, up(2, [reading("M1", NOW, 5)])])
        assert house.quarantine() == [("gw-1", "message_syntax", None)]
        assert house.quarantined_bytes() == [broken]
        refusals = [ack for _, ack in house.sent.acks if ack.refused]
        assert [(ack.epoch, ack.upto, ack.refused.digest) for ack in refusals if ack.refused] == [
            ("", 0, payload_digest(broken))
        ]
        assert house.stored() == {("M1", NOW): {"volume": 5}}
        assert delivery._done

    house.run(scenario)


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


def test_a_restored_disk_uses_numbers_again_and_loses_nothing(house: House) -> None:
    """Numbers 51 to 150 name new rows; 51 to 60 are lost on the way, and nothing old may acknowledge them."""

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW + seq, seq) for seq in range(100)])])
        await house.pipeline.cycle([up(101, [reading("M1", NOW + 100, 100)], oldest=101)])
        assert house.sent.acks[-1][1].upto == 101
        new = [reading("M1", NOW + 1000 + seq, seq) for seq in range(51, 151)]
        await house.pipeline.cycle([up(61, new[10:20], oldest=51, produced=150)])
        ack = house.sent.acks[-1][1]
        assert (ack.upto, ack.missing) == (70, [(51, 60)])
        assert house.events("security") == [("gw-1", "numbers_reused")]
        await house.pipeline.cycle([up(51, new[:10], oldest=51, produced=150), up(71, new[20:], oldest=51)])
        ack = house.sent.acks[-1][1]
        assert (ack.upto, ack.missing) == (150, [])
        assert len(house.stored()) == 101 + 100

    house.run(scenario)


def test_a_restored_disk_is_noticed_by_rows_older_than_the_latest_too(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW + seq, seq) for seq in range(10)])])
        await house.pipeline.cycle([up(4, [reading("M1", NOW - 100, 1)])])
        assert ("M1", NOW - 100) in house.stored()
        assert (house.sent.acks[-1][1].upto, house.sent.acks[-1][1].missing) == (4, [(1, 3)])

    house.run(scenario)


def test_rows_that_the_gateway_no_longer_holds_are_closed_and_reported(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(50, [reading("M1", NOW, 5)])])
        assert house.sent.acks[-1][1].missing == [(1, 49)]
        await house.pipeline.cycle([up(51, [reading("M1", NOW + 1, 6)], oldest=40)])
        assert house.sent.acks[-1][1].missing == [(40, 49)]
        await house.pipeline.cycle([up(52, [], gone=[(45, 2**62)], produced=51)])
        assert (house.sent.acks[-1][1].upto, house.sent.acks[-1][1].missing) == (51, [(40, 44)])
        assert house.position().gone == 39 + 5
        assert house.events("counter_gap") == [("gw-1", "gone")] * 2

    house.run(scenario)


def test_two_epochs_that_speak_in_turns_are_reported_and_a_new_epoch_is_not(house: House) -> None:
    async def scenario() -> None:
        other = "ee00ee00"
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 1)])])
        await house.pipeline.cycle([up(1, [reading("M1", NOW + 1, 2)], epoch=other)])
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 1)])])  # a late redelivery of the old one
        assert house.events("security") == []
        await house.pipeline.cycle([up(2, [reading("M1", NOW + 2, 3)])])
        assert house.events("security") == [("gw-1", "two_epochs")]

    house.run(scenario)


def test_nothing_is_acknowledged_while_the_store_is_away_and_everything_afterwards(tmp_path: Path) -> None:
    away = {"get": False, "write": False, "count": 0}

    class Moody:
        def __init__(self, store: ReadingStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            if away.get(name):
                away["count"] += 1
                raise StoreError("the disk is away")
            return getattr(self._store, name)

    house = House(tmp_path, wrap=Moody)

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW - 10, 3)])])
        house.sent.acks.clear()
        away["get"] = away["write"] = True
        deliveries = [up(2, [reading("M1", NOW, 5), reading("M1", NOW - 1, 4), reading("M1", NOW - 20, 2)])]
        work = asyncio.create_task(house.pipeline.cycle(deliveries))
        before = away["count"]
        while away["count"] < before + 8:
            await house.clock.advance(1.0)
        assert house.pipeline.problems["store"] == "the disk is away"
        assert house.sent.acks == []
        house.pipeline.announce()  # a reconnect in the middle of it tells what is committed, and no more
        house.pipeline.greet("gw-1", EPOCH)
        await house.clock.advance(0)
        assert [ack.upto for _, ack in house.sent.acks] == [1, 1]
        house.sent.acks.clear()
        assert not deliveries[0]._done
        away["get"] = False
        before = away["count"]
        while away["count"] < before + 4:
            await house.clock.advance(6.0)
        assert house.sent.acks == []
        away["write"] = False
        while not work.done():
            await house.clock.advance(6.0)
        await work
        assert house.pipeline.problems["store"] == ""
        assert house.sent.acks[-1][1].upto == 4
        assert len(house.stored()) == 4

    house.run(scenario)


@pytest.mark.parametrize("read_at", [NOW + 1, NOW - 5])
def test_a_differing_value_of_the_next_batch_never_overwrites_one_on_its_way(tmp_path: Path, read_at: int) -> None:
    """The first batch cannot be written yet while the second is checked: the store does not know the key so far."""
    away = {"write": True, "count": 0}

    class Moody:
        def __init__(self, store: ReadingStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            if away.get(name):
                away["count"] += 1
                raise StoreError("cannot be written now")
            return getattr(self._store, name)

    house = House(tmp_path, wrap=Moody)

    async def scenario() -> None:
        away["write"] = False
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 1)])])
        away["write"] = True
        first = asyncio.create_task(house.pipeline.cycle([up(2, [reading("M1", read_at, 5)])]))
        while not away["count"]:
            await house.clock.advance(0)
        second = asyncio.create_task(house.pipeline.cycle([up(3, [reading("M1", read_at, 6)])]))
        for _ in range(5):
            await house.clock.advance(1.0)
        away["write"] = False
        while not (first.done() and second.done()):
            await house.clock.advance(6.0)
        await asyncio.gather(first, second)
        assert house.stored() == {("M1", NOW): {"volume": 1}, ("M1", read_at): {"volume": 5}}
        assert house.quarantine() == [("gw-1", "conflict", 3)]

    house.run(scenario)


def test_nothing_is_acknowledged_while_the_registry_is_away(house: House) -> None:
    async def scenario() -> None:
        real, calls = house.database.begin, []

        def broken() -> Any:
            calls.append(1)
            raise RegistryError("no such server")

        house.database.begin = broken  # type: ignore[method-assign]  # the registry goes away
        delivery = up(1, [reading("M1", NOW, 5)])
        work = asyncio.create_task(house.pipeline.cycle([delivery]))
        while len(calls) < 5:
            await house.clock.advance(6.0)
        assert house.sent.acks == []
        assert not delivery._done
        assert house.pipeline.problems["registry"] == "no such server"
        house.database.begin = real  # type: ignore[method-assign]  # and comes back
        while not work.done():
            await house.clock.advance(6.0)
        await work
        assert house.position().stored == 1
        assert delivery._done

    house.run(scenario)


def test_what_the_store_refuses_is_quarantined_and_accounted_for(tmp_path: Path) -> None:
    class Choosy:
        def __init__(self, store: ReadingStore) -> None:
            self._store = store

        def write(self, readings: Sequence[Reading]) -> list[str | None]:
            self._store.write([r for r in readings if r.values.get("volume") != 13])
            return ["field type conflict" if r.values.get("volume") == 13 else None for r in readings]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

    house = House(tmp_path, wrap=Choosy)

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 12), reading("M1", NOW + 1, 13)])])
        assert house.stored() == {("M1", NOW): {"volume": 12}}
        assert house.quarantine() == [("gw-1", "store_refused", None)]
        await house.pipeline.flush()
        assert house.latest()["M1"][0] == NOW
        assert house.sent.acks[-1][1].upto == 2

    house.run(scenario)


def test_a_host_in_1970_judges_nobody(house: House) -> None:
    async def scenario() -> None:
        house.clock.step_wall(-NOW)
        work = asyncio.create_task(house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])]))
        await house.clock.advance(5.0)
        assert "clock" in house.pipeline.problems["clock"]
        assert not work.done()
        house.clock.step_wall(NOW)
        await house.clock.advance(5.0)
        await work
        assert house.stored() == {("M1", NOW): {"volume": 5}}

    house.run(scenario)


def test_after_a_start_every_gateway_hears_where_it_stands(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        await house.pipeline.cycle([up(7, [reading("M3", NOW, 5)], gateway="gw-2")])
        await house.clock.advance(1)
        await house.pipeline.cycle([up(1, [reading("M1", NOW + 1, 6)], epoch="ee00ee00")])

    house.run(scenario)
    house.restart()

    async def after() -> None:
        house.pipeline.announce()
        found = {gateway: (ack.epoch, ack.upto, ack.missing) for gateway, ack in house.sent.acks}
        assert found == {"gw-1": ("ee00ee00", 1, []), "gw-2": (EPOCH, 7, [(1, 6)])}
        house.pipeline.greet("gw-1", EPOCH)
        assert house.sent.acks[-1][1].upto == 1
        house.pipeline.greet("gw-1", "0000000000")
        assert len(house.sent.acks) == 3

    house.run(after)


def test_promise_5_holds_after_a_start_even_if_the_registry_was_lost(house: House) -> None:
    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])

    house.run(scenario)
    with house.database.begin() as connection:
        for table in ("latest", "closing", "position", "state"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    house.restart()

    async def after() -> None:
        assert house.latest()["M1"] == (NOW, {"volume": 5})
        assert house.closings() == {("M1", "2026-03-01"): (NOW, 5)}
        await house.pipeline.cycle([up(2, [reading("M1", NOW, 6)])])
        assert house.stored() == {("M1", NOW): {"volume": 5}}
        assert house.quarantine() == [("gw-1", "conflict", 2)]

    house.run(after)


def hostile(chance: random.Random) -> Delivery:
    """A message that follows the schema and is as odd as the schema allows, or one with some bytes changed."""
    numbers = [0, 1, 2, 7, 2**31 - 1, 2**53 + 1, 2**62 - 600, NOW, NOW // 1000, NOW + 1, 253_402_300_799_999]
    texts = ["M1", "M3", "nobody", "a\nb", "' OR 1=1 --", "\u202e", "../..", "x" * 64, "=cmd|' /C calc'!A0"]

    def number() -> int:
        return chance.choice(numbers)

    def row() -> Row:
        if chance.random() < 0.3:
            return Event("security", number(), meter=chance.choice(texts), count=max(1, number() % 2**31))
        return Reading(
            chance.choice(texts),
            min(number(), 253_402_300_799_999),
            {"volume": number() - number(), "valve": number()} if chance.random() < 0.9 else {},
            meter_time=chance.choice([None, 0, NOW]),
            received_at=chance.choice([None, 0]),
            quality=chance.choice(["valid", "suspect", "edited", "estimated", "manual"]),
            source=chance.choice(["poll", "push", "import", "estimate"]),
            flags=number() % 2**31,
        )

    seqs = [max(1, number()) for _ in range(5)]
    gone = [(seqs[3], seqs[4])] if chance.random() < 0.5 else []
    epoch = chance.choice([EPOCH, "ee00ee00", "0" * 32])
    message = Up(1, "gw-1", epoch, seqs[0], seqs[1], seqs[2], NOW, [row() for _ in range(chance.randrange(4))], gone)
    payload = bytearray(encode(message))
    if chance.random() < 0.5:
        for _ in range(chance.randrange(1, 4)):
            payload[chance.randrange(len(payload))] = chance.randrange(256)
    return raw(bytes(payload))


def test_five_hundred_odd_messages_do_not_stop_the_pipeline(house: House) -> None:
    chance = random.Random(3)

    async def scenario() -> None:
        for _ in range(50):
            deliveries = [hostile(chance) for _ in range(10)]
            await house.pipeline.cycle(deliveries)
            assert all(delivery._done for delivery in deliveries)
            await house.pipeline.flush()
        await house.pipeline.cycle([up(900_000, [reading("M2", NOW, 5)])])
        assert house.stored()["M2", NOW] == {"volume": 5}
        assert all(meter in ("M1", "M2") for meter, _ in house.stored())
        assert all(NOW - 401 * DAY < at <= NOW + 5 * MINUTE for _, at in house.stored())
        results = house.pipeline.counters
        assert results["messages_total", 'result="ok"'] > 100
        assert results["messages_total", 'result="refused"'] > 50

    house.run(scenario)
    house.restart()
    house.run(house.pipeline.reload)


def test_counters_tell_kinds_apart(house: House) -> None:
    async def scenario() -> None:
        rows = [reading("M1", NOW, 5), reading("nobody", NOW, 5)]
        await house.pipeline.cycle([up(1, rows), up(1, rows), raw(b"{"), raw(encode({"v": 1}))])
        counters = house.pipeline.counters
        assert counters["readings_total", 'result="stored"'] == 1
        assert counters["readings_total", 'result="duplicate"'] == 1
        assert counters["quarantined_total", 'reason="unknown_meter"'] == 2
        assert counters["quarantined_total", 'reason="message_syntax"'] == 1
        assert counters["quarantined_total", 'reason="message_schema"'] == 1
        assert counters["messages_total", 'result="ok"'] == 2
        assert counters["messages_total", 'result="refused"'] == 2

    house.run(scenario)
