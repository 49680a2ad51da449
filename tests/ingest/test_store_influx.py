"""The InfluxDB store: the contract of all stores on a real 1.6.7 by both wires, and what only a server can do wrong.

`METERGATE_TEST_INFLUX_URL` adds a server of yours to the contract; docs/stores.md says how.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from ingest.settings import InfluxSettings
from ingest.store_influx import InfluxStore
from metering.clock import SystemClock
from metering.errors import StoreError
from metering.reading import Reading
from metering.store import ReadingStore
from tests.databases import ServerProcess, influx_command, influxd, serving
from tests.ingest.influx_front import Front
from tests.ingest.store_contract import AT, END, StoreContract

CLOCK = SystemClock()
TOKEN = "a-token-of-the-test"
NAMED = os.environ.get("METERGATE_TEST_INFLUX_URL", "")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(influxd(tmp_path_factory.mktemp("influxd"))) as server:
        yield server


@pytest.fixture(scope="module")
def v2_front(server: ServerProcess) -> Iterator[Front]:
    front = Front(server.port, TOKEN)
    yield front
    front.close()


def name_of(folder: Path) -> str:
    return f"t{blake2b(str(folder).encode(), digest_size=8).hexdigest()}"


def settings_of(server: ServerProcess, name: str, **more: object) -> InfluxSettings:
    return InfluxSettings.model_validate({"url": server.url, "database": name, "read_back_s": 0.0, **more})


def opened(server: ServerProcess, name: str, mode: Literal["write", "read"] = "write", **more: object) -> InfluxStore:
    return InfluxStore(settings_of(server, name, **more), mode=mode, clock=CLOCK)


@pytest.fixture
def store(server: ServerProcess, tmp_path: Path) -> Iterator[InfluxStore]:
    store = opened(server, name_of(tmp_path))
    yield store
    store.close()


class TestPlainWire(StoreContract):
    """InfluxDB 1.6.7 by /write."""

    @pytest.fixture(autouse=True)
    def _use(self, server: ServerProcess) -> None:
        self.server = server

    def open(self, folder: Path) -> ReadingStore:
        return opened(self.server, name_of(folder))


class TestClientWire(StoreContract):
    """The v2 wire through influxdb-client: a front that speaks it, with InfluxDB 1.6.7 as its engine."""

    @pytest.fixture(autouse=True)
    def _use(self, v2_front: Front) -> None:
        self.front = v2_front

    def open(self, folder: Path) -> ReadingStore:
        wire = {"wire": "v2", "url": self.front.url, "bucket": name_of(folder), "org": "org", "read_back_s": 0.0}
        return InfluxStore(InfluxSettings.model_validate({**wire, "token": TOKEN}), mode="write", clock=CLOCK)


if NAMED:

    class TestNamedServer(StoreContract):
        """The server that METERGATE_TEST_INFLUX_URL names; every test writes a measurement of its own."""

        def open(self, folder: Path) -> ReadingStore:
            env = os.environ
            token, bucket = env.get("METERGATE_TEST_INFLUX_TOKEN", ""), env.get("METERGATE_TEST_INFLUX_BUCKET", "")
            facts = {
                "url": NAMED,
                "wire": "v2" if token else "v1",
                "token": SecretStr(token),
                "org": env.get("METERGATE_TEST_INFLUX_ORG", ""),
                "bucket": bucket or "metergate-test",
                "database": bucket or "metergate-test",
                "read_back_s": 0.0,
            }
            measurement = f"reading_{name_of(folder)}"
            chosen = InfluxSettings.model_validate(facts)
            return InfluxStore(chosen, mode="write", clock=CLOCK, measurement=measurement)


def test_one_hundred_thousand_indexes_of_up_to_15_digits_are_equal_to_the_last_digit(store: InfluxStore) -> None:
    chance = random.Random(15)
    micros = [chance.randrange(10 ** chance.randrange(1, 16)) * chance.choice((1, 1, 1, -1)) for _ in range(100_000)]
    for start in range(0, len(micros), 20_000):
        batch = [Reading("a", AT + start + i, {"volume": m}) for i, m in enumerate(micros[start : start + 20_000])]
        assert store.write(batch) == [None] * len(batch)
    assert [r.values["volume"] for r in store.range(["a"], AT, END)] == micros


def test_numbers_that_a_float_does_not_keep_are_refused(store: InfluxStore) -> None:
    answers = store.write(
        [
            Reading("a", AT, {"volume": 9_007_199_254_740_993_001}),
            Reading("a", AT + 1, {"volume": 2**63}),
            Reading("a", AT + 2, {"volume": 9_000_000_000_000_000_000}),
            Reading("a", 253_402_300_799_999, {"volume": 1}),
            Reading("a", AT + 3, {"volume": 1}, reason="not a code"),
            Reading("half \ud800", AT + 3, {"volume": 1}),
        ]
    )
    assert [bool(answer) for answer in answers] == [True, True, False, True, True, True]
    assert "more digits than a float" in (answers[0] or "")
    assert "2262" in (answers[3] or "")
    assert "half a character" in (answers[5] or "")
    assert [r.values for r in store.range(None, AT, END)] == [{"volume": 9_000_000_000_000_000_000}]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=24)
SPECIAL = st.text(st.sampled_from("\\, =\"'\n\r\t#%/水\x00\x7f\x85\u2028é\U0001f6b0aA5"), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(meters=st.sets(TEXT | SPECIAL, min_size=1, max_size=40))
def test_ids_of_any_characters_come_back_exactly_and_in_order(server: ServerProcess, meters: set[str]) -> None:
    """The names that hypothesis thinks of travel together, so that any two that met in one series would show."""
    store = opened(server, f"h{blake2b(repr(sorted(meters)).encode(), digest_size=8).hexdigest()}")
    batch = [Reading(meter, AT, {"volume": place}) for place, meter in enumerate(sorted(meters))]
    assert store.write(batch) == [None] * len(batch)
    assert list(store.range(None, AT, END)) == batch
    assert list(store.range(list(meters), AT, END)) == batch
    influx_command(server, f'DROP DATABASE "{store.settings.database}"')
    store.close()


@pytest.mark.parametrize("reason", ["time_ahead", "a" * 12, "b" * 13, "z9_" * 21 + "_", "x" * 24])
def test_a_reason_is_spelled_in_numbers_and_a_shorter_one_replaces_a_longer_one(
    store: InfluxStore, reason: str
) -> None:
    for text in ("l" * 64, reason, ""):
        written = Reading("a", AT, {"volume": 1}, quality="suspect", reason=text)
        assert store.write([written]) == [None]
        assert store.get([("a", AT)]) == {("a", AT): written}


def test_one_bad_row_is_refused_with_the_servers_words_and_all_others_are_written(
    server: ServerProcess, tmp_path: Path
) -> None:
    """The server drops what is older than its retention; its answer does not tell which row that was."""
    store = opened(server, name_of(tmp_path), retention_days=30)
    now = CLOCK.now_ms()
    batch = [Reading(f"M{i}", now - i, {"volume": i}, received_at=now) for i in range(1200)]
    batch[700] = Reading("M700", now - 40 * 86_400_000, {"volume": 1}, received_at=now)
    answers = store.write(batch)
    assert [place for place, answer in enumerate(answers) if answer] == [700]
    assert "beyond retention policy" in (answers[700] or "")
    assert sum(store.counts(0, now + 1).values()) == 1199
    assert store.counters["bisected"] >= 5
    assert store.counters["refused"] == 1
    store.close()


def test_a_field_of_another_type_refuses_the_rows_that_carry_it(store: InfluxStore, server: ServerProcess) -> None:
    store.write([Reading("a", AT, {"volume": 1})])
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    line = f"reading,meter=foreign battery=3i {AT}"
    connection.request("POST", f"/write?db={store.settings.database}&precision=ms", line)
    assert connection.getresponse().status == 204
    connection.close()
    answers = store.write([Reading("a", AT + 1, {"volume": 2}), Reading("b", AT + 1, {"battery": 3})])
    assert answers[0] is None
    assert "conflict" in (answers[1] or "")
    assert [(r.meter, r.values) for r in store.range(None, AT, END)] == [("a", {"volume": 1}), ("a", {"volume": 2})]


def test_a_refused_row_does_not_take_its_twin_with_it(store: InfluxStore) -> None:
    answers = store.write(
        [Reading("a", AT, {"volume": 1}), Reading("a", AT, {"volume": 2**62 + 1}), Reading("a", AT, {})]
    )
    assert [bool(answer) for answer in answers] == [False, True, True]
    assert store.get([("a", AT)])["a", AT].values == {"volume": 1}


def test_a_limit_of_the_server_is_no_fault_of_a_row(tmp_path: Path) -> None:
    with serving(influxd(tmp_path / "influxd", extra="max-values-per-tag = 3")) as server:
        store = opened(server, "small")
        store.write([Reading(f"M{i}", AT, {"volume": i}) for i in range(3)])
        with pytest.raises(StoreError, match="max-values-per-tag"):
            store.write([Reading("M3", AT, {"volume": 3})])
        store.close()


def test_users_and_passwords_and_a_database_that_we_may_not_make(tmp_path: Path) -> None:
    with serving(influxd(tmp_path / "influxd", auth=True)) as server:
        influx_command(server, "CREATE USER root WITH PASSWORD 'secret' WITH ALL PRIVILEGES")
        admin = {"u": "root", "p": "secret"}
        influx_command(server, "CREATE USER ingest WITH PASSWORD 'pass'", **admin)
        stranger = opened(server, "city", username="ingest", password="wrong")
        with pytest.raises(StoreError, match="401"):
            stranger.write([Reading("a", AT, {"volume": 1})])
        store = opened(server, "city", username="ingest", password="pass")
        with pytest.raises(StoreError, match=r"40[34]"):
            store.write([Reading("a", AT, {"volume": 1})])
        influx_command(server, "CREATE DATABASE city", **admin)
        influx_command(server, "GRANT ALL ON city TO ingest", **admin)
        assert store.write([Reading("a", AT, {"volume": 1})]) == [None]
        assert store.counts(AT, END) == {"a": 1}
        stranger.close()
        store.close()


def test_a_reader_writes_nothing_and_makes_nothing(server: ServerProcess, tmp_path: Path) -> None:
    reader = opened(server, name_of(tmp_path), "read")
    with pytest.raises(StoreError, match="database not found"):
        reader.counts(AT, END)
    with pytest.raises(StoreError, match="reading only"):
        reader.write([Reading("a", AT, {"volume": 1})])
    assert name_of(tmp_path) not in influx_command(server, "SHOW DATABASES")
    store = opened(server, name_of(tmp_path))
    store.write([Reading("a", AT, {"volume": 1})])
    assert reader.counts(AT, END) == {"a": 1}
    reader.close()
    store.close()


def test_nobody_there_is_a_store_error_and_nothing_hangs(tmp_path: Path) -> None:
    server = influxd(tmp_path / "influxd")  # never started
    for wire in ("v1", "v2"):
        began = time.monotonic()
        store = opened(server, "x", wire=wire, bucket="x", token="t", timeout_s=1.0)
        with pytest.raises(StoreError, match="no answer"):
            store.write([Reading("a", AT, {"volume": 1})])
        with pytest.raises(StoreError, match="no answer"):
            store.counts(AT, END)
        store.close()
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("wire", ["v1", "v2"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_an_answer_that_is_no_fault_of_a_row_is_tried_again(
    server: ServerProcess, tmp_path: Path, wire: str, status: int
) -> None:
    front = Front(server.port)
    store = opened(
        server, name_of(tmp_path), url=front.url, wire=wire, bucket=name_of(tmp_path), org="org", token="t"
    )
    batch = [Reading(f"M{i}", AT, {"volume": i}) for i in range(10)]
    front.mode = status
    with pytest.raises(StoreError, match=str(status)):
        store.write(batch)
    front.mode = "pass"
    assert store.write(batch) == [None] * 10
    assert sum(store.counts(AT, END).values()) == 10
    store.close()
    front.close()


def test_a_server_that_says_204_and_drops_is_noticed(server: ServerProcess, tmp_path: Path) -> None:
    front = Front(server.port)
    store = opened(server, name_of(tmp_path), url=front.url)
    batch = [Reading(f"M{i}", AT, {"volume": i}) for i in range(10)]
    front.mode = "drop"
    with pytest.raises(StoreError, match="said yes to a reading, but does not have it"):
        store.write(batch)
    assert store.counters["read_back_failed"] == 1
    front.mode = "pass"
    assert store.write(batch) == [None] * 10
    front.mode = "drop"
    with pytest.raises(StoreError, match="gives other values"):
        store.write([Reading("M3", AT, {"volume": 99})])
    store.close()
    front.close()


def test_a_range_left_early_leaves_nothing_open(store: InfluxStore) -> None:
    store.write([Reading(f"M{i % 40:02}", AT + i, {"volume": i}) for i in range(20_000)])
    for _ in range(20):
        found = store.range(None, AT, END)
        assert next(found).meter == "M00"
        found.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(list(store.range(None, AT, END))) == 20_000
    assert len(store._links._idle) <= 2


def test_latest_readings_of_long_ago_are_found_behind_recent_ones(store: InfluxStore) -> None:
    now = CLOCK.now_ms()
    days = {"today": 0, "yesterday": 1, "last month": 31, "last year": 380}
    store.write([Reading(meter, now - d * 86_400_000, {"volume": d}) for meter, d in days.items()])
    store.write([Reading("today", now + 5000, {"flow": 1})])
    found = store.at_or_before(list(days), 253_402_300_800_000)
    assert {meter: r.read_at for meter, r in found.items()} == {
        "today": now + 5000,
        "yesterday": now - 86_400_000,
        "last month": now - 31 * 86_400_000,
        "last year": now - 380 * 86_400_000,
    }
    assert store.at_or_before(["today"], now + 9000, quantity="volume")["today"].values == {"volume": 0}
