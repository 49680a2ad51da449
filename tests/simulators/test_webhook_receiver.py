"""The system outside of the demo: who signs is heard, who sends again is counted once, who forges is refused."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook

from metering.clock import ManualClock, SystemClock
from simulators.webhook_receiver import WebhookReceiver

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
AT = 1_772_323_200
BODY = b'{"type": "work_order.opened", "timestamp": "x", "data": {"id": 1}}'


def signed(name: str, body: bytes = BODY, at: int = AT) -> dict[str, str]:
    """Headers as another implementation of Standard Webhooks makes them."""
    signature = Webhook(SECRET).sign(name, datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": name, "webhook-timestamp": str(at), "webhook-signature": signature}


def receiver(refuse_first: int = 0) -> WebhookReceiver:
    return WebhookReceiver(ManualClock(AT * 1000 + 500), SECRET, refuse_first)


def test_a_delivery_that_was_answered_with_500_twice_takes_effect_once() -> None:
    outside = receiver(refuse_first=2)
    assert [outside.take(signed("msg_1"), BODY) for _ in range(3)] == [500, 500, 200]
    assert outside.take(signed("msg_2"), BODY) == 200
    assert outside.kinds == {"msg_1": "work_order.opened", "msg_2": "work_order.opened"}
    assert (outside.requests, outside.refused, outside.again, outside.unsigned) == (4, 2, 2, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(AT + 1)},
        {"webhook-timestamp": "now"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1,\u00e9"},
    ],
)
def test_what_is_not_signed_is_refused_and_has_no_effect(changed: dict[str, str]) -> None:
    outside = receiver()
    assert outside.take({**signed("msg_1"), **changed}, BODY) == 401
    assert outside.take(signed("msg_1"), BODY + b" ") == 401
    assert outside.take({}, BODY) == 401
    assert (outside.kinds, outside.unsigned) == ({}, 3)


def test_an_old_request_and_a_receiver_without_a_secret_are_no_door() -> None:
    outside = receiver()
    assert outside.take(signed("msg_1", at=AT - 301), BODY) == 401
    outside.secret = ""
    assert outside.take(signed("msg_1"), BODY) == 401


def test_one_of_several_signatures_is_enough_and_any_body_is_survived() -> None:
    outside = receiver()
    for number, body in enumerate((b"[]", b"", b"\x00", b"[" * 5000)):
        headers = signed(f"msg_{number}", body)
        headers["webhook-signature"] = f"v1,AAAA {headers['webhook-signature']}"
        assert outside.take(headers, body) == 200
    assert set(outside.kinds.values()) == {""}


def test_over_the_wire() -> None:
    async def ask(port: int, head: str, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer

    async def scenario() -> None:
        outside = WebhookReceiver(SystemClock(), SECRET, 1)
        await outside.start()
        now = SystemClock().now_ms() // 1000
        headers = "".join(f"\r\n{name}: {value}" for name, value in signed("msg_1", at=now).items())
        head = f"POST /hook HTTP/1.1\r\ncontent-length: {len(BODY)}{headers}"
        assert b" 500 " in await ask(outside.port, head, BODY)
        assert b" 200 " in await ask(outside.port, head, BODY)
        assert b" 413 " in await ask(outside.port, "POST / HTTP/1.1\r\ncontent-length: 999999999", b"")
        await ask(outside.port, "POST / HTTP/1.1\r\ncontent-length: x", b"")
        assert len(outside.kinds) == 1
        assert outside.url == f"http://127.0.0.1:{outside.port}/hook"
        await outside.stop()
        await outside.stop()

    asyncio.run(scenario())
