"""/livez, /readyz and /metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.queries.readiness import READY_PREFIX
from ingest.service import READY_KEY
from registry import ledger, watch
from tests.api.world import T0, World, make_world, say_ready

NOW = T0 + 24 * 3_600_000


def checks(world: World) -> dict[str, tuple[str, str]]:
    return {check["name"]: (check["status"], check["reason"]) for check in world.get("/readyz").json()["checks"]}


def figures(world: World) -> dict[str, float]:
    """Every sample of the page by name and labels; also proves that the page can be parsed."""
    page = world.get("/metrics").text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def report(world: World, values: dict[str | tuple[str, str], float]) -> None:
    with world.database.begin() as connection:
        ledger.save_counters(connection, "ingest-1", values, NOW)


def test_ingest_and_we_mean_the_same_key() -> None:
    assert READY_PREFIX == READY_KEY


def test_livez_answers_without_registry_and_store(tmp_path: Path) -> None:
    world = make_world(tmp_path, filled=False)
    world.database.close()
    (tmp_path / "registry.db").unlink()
    assert world.get("/livez").json() == {"status": "ok"}
    world.close()


def test_ready_when_every_dependency_is_there(world: World) -> None:
    answer = world.get("/readyz")
    # gw-9 left the broker: worth a word, no reason to call the house down
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert {name: state for name, (state, _) in checks(world).items()} == {
        "broker": "ok",
        "gateways": "degraded",
        "ingest": "ok",
        "registry": "ok",
        "store": "ok",
    }
    assert checks(world)["gateways"][1].startswith("gw-9 offline: it left the broker; last heard 2026-03-01T23:59:55")


def test_a_silent_ingest_is_named_with_its_silence_and_the_broker_is_unknown(world: World) -> None:
    world.clock.pause(41)
    answer = world.get("/readyz")
    assert answer.status_code == 503
    assert checks(world)["ingest"] == ("failed", "ingest-1 has not reported for 42 s")
    assert checks(world)["broker"][0] == "failed"


def test_a_broker_that_ingest_has_lost_is_a_failure(world: World) -> None:
    with world.database.begin() as connection:
        say_ready(connection, NOW, broker="connection refused")
    assert checks(world)["broker"] == ("failed", "ingest-1: connection refused")
    assert checks(world)["ingest"] == ("ok", "")


def test_what_ingest_cannot_reach_is_its_trouble(world: World) -> None:
    with world.database.begin() as connection:
        say_ready(connection, NOW, store="disk full", ingest="still starting")
    assert checks(world)["ingest"] == ("failed", "ingest-1: still starting; ingest-1: store: disk full")


def test_a_worker_retired_long_ago_is_forgotten_and_one_that_just_died_is_not(world: World) -> None:
    with world.database.begin() as connection:
        say_ready(connection, NOW - 7_200_000, "ingest-2")
    assert checks(world)["ingest"] == ("ok", "")
    with world.database.begin() as connection:
        say_ready(connection, NOW - 60_000, "ingest-2")
    assert checks(world)["ingest"] == ("failed", "ingest-2 has not reported for 60 s")


def test_an_anomaly_service_whose_parts_nobody_judges_is_not_forgotten(world: World) -> None:
    with world.database.begin() as connection:
        for name, age in (("anomaly-1", 0), ("anomaly-2", 7_200_000)):
            ledger.set_state(connection, f"ready_anomaly.{name}", f'{{"at": {NOW - age}, "problems": {{}}}}')
        watch.claim(connection, "anomaly-2", [1], now=NOW - 7_200_000, lease_ms=30_000)
    assert checks(world)["anomaly"] == ("failed", "anomaly-2 has not reported for 7200 s")
    with world.database.begin() as connection:
        watch.claim(connection, "anomaly-1", [1], now=NOW, lease_ms=30_000)
    assert checks(world)["anomaly"] == ("ok", "")


def test_a_report_that_cannot_be_read_is_a_failure_and_not_a_crash(world: World) -> None:
    for nonsense in ("", "[]", '{"at": "x", "problems": {}}', '{"at": 1}', '{"at": 1, "problems": []}'):
        with world.database.begin() as connection:
            ledger.set_state(connection, "ready.ingest-1", nonsense)
        assert checks(world)["ingest"] == ("failed", "ingest-1: its report cannot be read")


def test_an_empty_house_says_what_is_missing(tmp_path: Path) -> None:
    world = make_world(tmp_path, filled=False)
    found = checks(world)
    assert found["ingest"] == ("failed", "ingest has never reported to this registry")
    assert found["store"][0] == "failed"
    assert "ingest makes it when it starts" in found["store"][1]
    assert found["registry"] == ("ok", "")
    world.close()


def test_a_registry_without_tables_is_named_and_metrics_go_on(world: World) -> None:
    with world.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE counter")
        connection.exec_driver_sql("DROP TABLE state")
    assert checks(world)["registry"][0] == "failed"
    assert "no such table" in checks(world)["registry"][1]
    found = figures(world)
    assert found["metergate_api_registry_up[]"] == 0
    assert found["metergate_api_requests_total[('route', '/readyz'), ('status', '503')]"] >= 2


def test_metrics_show_ingest_the_ledgers_and_ourselves(world: World) -> None:
    world.get("/api/v1/meters/G-0001")
    world.get("/nowhere")
    found = figures(world)
    assert found["metergate_ingest_readings_total[('result', 'stored'), ('service', 'ingest-1')]"] == 24
    assert found["metergate_ingest_readings_total[('result', 'conflict'), ('service', 'ingest-1')]"] == 2
    assert found["metergate_ingest_meters[('service', 'ingest-1')]"] == 3
    assert found["metergate_service_report_age_seconds[('service', 'ingest-1')]"] == 1
    assert found["metergate_gateway_rows_stored_total[('gateway', 'gw-1')]"] == 20
    assert found["metergate_gateway_waiting[('gateway', 'gw-1')]"] == 7
    assert found["metergate_gateway_online[('gateway', 'gw-9')]"] == 0
    assert found["metergate_gateway_polls_total[('gateway', 'gw-1')]"] == 40
    assert found["metergate_gateway_polls_failed_total[('gateway', 'gw-1')]"] == 2
    assert found["metergate_registry_meters[]"] == 3
    assert found["metergate_registry_meters_ever_read[]"] == 2
    assert found["metergate_api_requests_total[('route', '/api/v1/meters/{meter_id}'), ('status', '200')]"] == 1
    assert found["metergate_api_requests_total[('route', 'none'), ('status', '404')]"] == 1


def test_no_meter_id_ever_stands_in_the_page_and_broken_figures_do_not_break_it(world: World) -> None:
    report(
        world,
        {
            ("metergate_ingest_reads_total", 'meter="G-0001"'): 1.0,
            ("metergate_ingest_reads_total", 'kind="a\\"b\\\\c"'): 2.0,
            ("evil", 'x="1"} 5\nmetergate_fake 1'): 3.0,
            "bad name": 4.0,
            "metergate_ingest_readings": 5.0,  # a gauge with the name of the counter …_readings_total
        },
    )
    world.get("/api/v1/meters/G-0001/latest")
    page = world.get("/metrics").text
    assert "G-0001" not in page
    assert "metergate_fake" not in page
    found = figures(world)
    labels = [("kind", 'a"b\\c'), ("service", "ingest-1")]
    assert found[f"metergate_ingest_reads_total{labels}"] == 2
    assert found["metergate_api_reported_figures_ignored[]"] == 3


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_nothing_of_the_state_is_ever_cached(world: World, path: str) -> None:
    assert world.get(path).headers["cache-control"] == "no-store"
