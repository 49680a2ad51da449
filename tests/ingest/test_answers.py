"""Acknowledgements and notices: one of each outbox on its way, the newest next, failures counted and forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter

from ingest.answers import NOTICE_METERS, Answers
from metering.errors import BrokerError
from metering.messages import Refused, decode_ack, decode_notice, topic
from registry.ledger import Position


class SlowBroker:
    """Keeps the PUBACK of every message until the test gives it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, asyncio.Future[None]]] = []

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append((topic, payload, future))
        return future


def position(upto: int, epoch: str = "00ff00ff") -> Position:
    return Position("gw-1", epoch, 0, [(1, upto)])


def test_a_slow_broker_holds_one_acknowledgement_per_outbox_and_then_gets_the_newest() -> None:
    async def scenario() -> None:
        broker, counters = SlowBroker(), Counter[tuple[str, str]]()
        answers = Answers(broker, counters)
        for upto in range(1, 1001):
            answers.acknowledge(position(upto))
        answers.acknowledge(position(5, "ee00ee00"))
        assert [decode_ack(payload).upto for _, payload, _ in broker.sent] == [1, 5]
        broker.sent[0][2].set_result(None)
        await asyncio.sleep(0)
        assert [decode_ack(payload).upto for _, payload, _ in broker.sent] == [1, 5, 1000]
        broker.sent[2][2].set_exception(BrokerError("link lost"))
        await asyncio.sleep(0)
        answers.acknowledge(position(1001))
        assert decode_ack(broker.sent[-1][1]).upto == 1001
        assert counters["acknowledgements_total", 'result="sent"'] == 1
        assert counters["acknowledgements_total", 'result="failed"'] == 1

    asyncio.run(scenario())


def test_every_refusal_is_said() -> None:
    async def scenario() -> None:
        broker = SlowBroker()
        answers = Answers(broker, Counter())
        for number in range(3):
            answers.refuse("gw-1", Refused(f"d{number}", "syntax"))
        acks = [decode_ack(payload) for name, payload, _ in broker.sent if name == topic("gw-1", "ack")]
        assert [ack.refused.digest for ack in acks if ack.refused] == ["d0", "d1", "d2"]

    asyncio.run(scenario())


def test_a_notice_of_a_whole_city_comes_in_pieces() -> None:
    async def scenario() -> None:
        broker = SlowBroker()
        meters = [f"M{i}" for i in range(NOTICE_METERS + 1)]
        Answers(broker, Counter()).notice({7: (meters, 10, 20)}, 30)
        notices = [decode_notice(payload) for name, payload, _ in broker.sent if name == "mg/v1/7/notice"]
        assert [name for notice in notices for name in notice.meters] == meters
        assert [(n.t0, n.t1, n.at) for n in notices] == [(10, 20, 30)] * 2

    asyncio.run(scenario())
