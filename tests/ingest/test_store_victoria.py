"""The v2 wire on a server that we cannot ask by InfluxQL: VictoriaMetrics, each row read back by its export."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from ingest.line_protocol import meter_of
from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from metering.clock import SystemClock
from metering.quantities import MICRO
from metering.reading import Reading
from tests.databases import ServerProcess, serving, victoria_metrics
from tests.ingest.store_contract import AT, UGLY_IDS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(victoria_metrics(tmp_path_factory.mktemp("victoria"))) as server:
        yield server


@pytest.fixture
def store(server: ServerProcess) -> Iterator[InfluxStore]:
    # it keeps no database and answers no InfluxQL, so that nothing is looked up again
    facts = {"url": server.url, "wire": "v2", "token": "any", "org": "org", "bucket": "any", "read_back_rows": 0}
    store = InfluxStore(InfluxSettings.model_validate(facts), mode="write", clock=SystemClock())
    yield store
    store.close()


def exported(server: ServerProcess, field: str, at_least: int) -> dict[tuple[str, int], float]:
    """Return (meter, read_at) -> value of everything that the server has of one field, when it has enough."""
    end = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/internal/force_flush")
        connection.getresponse().read()
        query = {
            "match[]": f'{{__name__="reading_{field}"}}',
            "start": AT // 1000 - 86_400,
            "end": AT // 1000 + 864_000,
        }
        connection.request("GET", "/api/v1/export?" + urlencode(query))
        lines = connection.getresponse().read().splitlines()
        connection.close()
        found: dict[tuple[str, int], float] = {}
        for line in map(json.loads, lines):
            points = zip(line["timestamps"], line["values"], strict=True)
            found.update({(meter_of(line["metric"]["meter"]), at): value for at, value in points})
        if len(found) >= at_least or time.monotonic() > end:
            return found
        time.sleep(0.1)


def test_one_hundred_thousand_indexes_of_up_to_13_digits_are_equal_to_the_last_digit(
    server: ServerProcess, store: InfluxStore
) -> None:
    """13, because its own storage rounds: of numbers with 15 digits some come back changed."""
    chance = random.Random(13)
    written = {
        (f"M{place % 100:02}", AT + place * 10): chance.randrange(10 ** chance.randrange(1, 14))
        for place in range(100_000)
    }
    batch = [Reading(meter, at, {"volume": micro}) for (meter, at), micro in written.items()]
    for start in range(0, len(batch), 20_000):
        assert store.write(batch[start : start + 20_000]) == [None] * 20_000
    found = exported(server, "volume", len(written))
    assert {key: round(value * MICRO) for key, value in found.items()} == written


def test_every_field_of_every_row_is_there_under_the_meters_own_name(
    server: ServerProcess, store: InfluxStore
) -> None:
    batch = [
        Reading(
            meter, AT, {"flow": place}, received_at=AT + place, flags=place, quality="suspect", reason="time_ahead"
        )
        for place, meter in enumerate(UGLY_IDS)
    ]
    assert store.write(batch) == [None] * len(batch)
    for field, values in {
        "flow": {r.meter: r.values["flow"] / MICRO for r in batch},
        "received_at": {r.meter: r.received_at for r in batch},
        "flags": {r.meter: r.flags for r in batch},
        "quality": dict.fromkeys(UGLY_IDS, 1),
    }.items():
        found = exported(server, field, len(batch))
        assert {meter: round(found[meter, AT], 6) for meter in UGLY_IDS} == values


def test_a_write_again_is_accepted_and_a_bad_row_is_refused_by_us(server: ServerProcess, store: InfluxStore) -> None:
    batch = [Reading("a", AT, {"power": 5}), Reading("b", AT, {"power": 10**15 + 1, "current": 2**62 + 1})]
    for _ in range(2):
        answers = store.write(batch)
        assert answers[0] is None
        assert "current" in (answers[1] or "")
    assert exported(server, "power", 1) == {("a", AT): 0.000005}
