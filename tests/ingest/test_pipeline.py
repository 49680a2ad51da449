"""The way of a reading through ingest, with a real registry and a real store."""

from __future__ import annotations

from metering.messages import encode, payload_digest
from metering.reading import Reading, Row
from tests.ingest.house import DAY, EPOCH, HOUR, NOW, House, failed, raw, reading, up


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
