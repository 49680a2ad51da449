"""What ingest says: acknowledgements to gateways, notices to whoever draws pages.

At most one acknowledgement per outbox is on its way; a newer one waits and replaces the one that waited before it,
since each says everything. So a slow or absent broker holds one message per gateway in memory, not one per batch.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

from ingest import ledger
from metering.messages import VERSION, Ack, Notice, Refused, encode, notice_topic, topic
from registry.ledger import Position

NOTICE_METERS: Final = 500
"""Meters that one notice names."""


class Sender(Protocol):
    """The half of `MqttSession` that sends."""

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[None]: ...


class Answers:
    """Sends without waiting; failures are counted, the gateway asks again by sending again."""

    def __init__(self, sender: Sender, counters: Counter[tuple[str, str]]) -> None:
        self._sender = sender
        self._counters = counters
        self._flying: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], bytes] = {}

    def acknowledge(self, position: Position) -> None:
        """Tell a gateway what of one outbox is committed; only ever called with what is."""
        upto, missing = ledger.acknowledge(position.spans, position.oldest)
        key = position.gateway, position.epoch
        payload = encode(Ack(VERSION, position.epoch, upto, missing))
        if key in self._flying:
            self._waiting[key] = payload
        else:
            self._fly(key, payload)

    def refuse(self, gateway: str, refused: Refused) -> None:
        """Tell a gateway that a message of it could not be read, and is in quarantine."""
        future = self._sender.send(topic(gateway, "ack"), encode(Ack(VERSION, "", 0, [], refused)))
        future.add_done_callback(self._count)

    def notice(self, touched: Mapping[int, tuple[list[str], int, int]], now: int) -> None:
        """Tell which meters have new readings: part -> (meters, first and last read_at [ms UTC])."""
        for part, (meters, t0, t1) in touched.items():
            for start in range(0, len(meters), NOTICE_METERS):
                payload = encode(Notice(VERSION, now, meters[start : start + NOTICE_METERS], t0, t1))
                self._sender.send(notice_topic(part), payload, qos=0).add_done_callback(_see)

    def _fly(self, key: tuple[str, str], payload: bytes) -> None:
        self._flying.add(key)
        self._sender.send(topic(key[0], "ack"), payload).add_done_callback(partial(self._landed, key))

    def _landed(self, key: tuple[str, str], future: asyncio.Future[None]) -> None:
        self._count(future)
        self._flying.discard(key)
        payload = self._waiting.pop(key, None)
        if payload is not None and not future.cancelled():
            self._fly(key, payload)

    def _count(self, future: asyncio.Future[None]) -> None:
        self._counters["acknowledgements_total", f'result="{"sent" if _see(future) else "failed"}"'] += 1


def _see(future: asyncio.Future[None]) -> bool:
    """True when it went out; an error is looked at here, so that asyncio does not report it as forgotten."""
    return not future.cancelled() and future.exception() is None
