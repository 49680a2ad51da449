"""The dashboards: sound JSON on provisioned data sources; every InfluxQL query runs on a real InfluxDB 1.6.7."""

from __future__ import annotations

import http.client
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from tests.databases import ServerProcess, influx_command, influxd, serving
from tests.deploy.tools import DEPLOY, written

FOLDER = DEPLOY / "grafana"
BOARDS = {path.name: json.loads(path.read_text("utf-8")) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
HOUR = 3_600_000
NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
STATE = "received_at={at}i,meter_time=-1i,quality={quality}i,source=0i,flags={flags}i,reason=0i"
METER = "G 1,'x'=ü"  # every character that a query or a line could stumble over


def sources() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(
        (FOLDER / "provisioning" / "datasources" / "metergate.yml").read_text("utf-8")
    )["datasources"]
    return found


def targets(board: str) -> list[tuple[str, dict[str, Any]]]:
    """(title of the panel, target) of a dashboard."""
    return [(p["title"], target) for p in BOARDS[board]["panels"] for target in p.get("targets", [])]


# -- the files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_sound(name: str) -> None:
    board = BOARDS[name]
    assert board["title"].startswith("Metergate: ")
    assert board["uid"]
    panels = board["panels"]
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert [target["refId"] for target in panel["targets"]] == sorted({t["refId"] for t in panel["targets"]})


def test_uids_are_different() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 2


def test_every_panel_asks_a_provisioned_data_source_of_its_kind() -> None:
    known = {source["uid"]: source["type"] for source in sources()}
    for board in BOARDS.values():
        for panel in board["panels"]:
            for asked in [panel.get("datasource"), *(t["datasource"] for t in panel.get("targets", []))]:
                assert asked is None or known[asked["uid"]] == asked["type"]


def test_every_variable_that_a_query_uses_exists() -> None:
    for name, board in BOARDS.items():
        own = {variable["name"] for variable in board["templating"]["list"]}
        builtin = {"timeFilter", "__interval", "__rate_interval"}
        for title, target in targets(name):
            text = target.get("query") or target["expr"]
            used = set(re.findall(r"\$\{?(\w+)", text))
            assert used <= own | builtin, title


def test_what_compose_mounts_is_what_is_provisioned() -> None:
    grafana = written()["services"]["grafana"]
    (provider,) = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "metergate.yml").read_text("utf-8"))[
        "providers"
    ]
    mounted = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/operation.json"
    assert "operation.json" in BOARDS


def test_grafana_reads_influxdb_as_a_user_that_may_only_read() -> None:
    (influx,) = [source for source in sources() if source["type"] == "influxdb"]
    services = written()["services"]
    assert influx["user"] == services["influxdb"]["environment"]["INFLUXDB_READ_USER"]
    assert influx["jsonData"]["dbName"] == services["influxdb"]["environment"]["INFLUXDB_DB"]
    assert influx["secureJsonData"] == {"password": "$__file{/run/secrets/influxdb_grafana}"}
    assert "influxdb_grafana" in services["grafana"]["secrets"]
    assert [s["url"] for s in sources()] == ["http://door:9090", "http://influxdb:8086"]


# -- the queries on a real server ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """InfluxDB with the users that the image makes (its rights, too), and a few readings of two meters."""
    with serving(influxd(tmp_path_factory.mktemp("influx"), auth=True)) as server:
        influx_command(server, "CREATE USER admin WITH PASSWORD 'a' WITH ALL PRIVILEGES")
        for statement in (
            "CREATE DATABASE metergate",
            "CREATE USER metergate WITH PASSWORD 'm'",
            'GRANT ALL ON "metergate" TO "metergate"',
            "CREATE USER grafana WITH PASSWORD 'g'",
            'GRANT READ ON "metergate" TO "grafana"',
        ):
            assert "error" not in influx_command(server, statement, u="admin", p="a")
        assert (
            post(server, "metergate", "m", "/write?db=metergate&precision=ms", "\n".join(points()).encode())[0] == 204
        )
        yield server


def points() -> list[str]:
    """METER: an index of 100.0, 100.5, 100.5 (no reading in hour 2), then an exchange: 3.0; everything else once."""
    tag = re.sub("([, =])", r"\\\1", METER)
    made = []
    for hour, volume, quality in ((0, 100.0, 0), (1, 100.5, 0), (3, 100.5, 1), (4, 3.0, 0)):
        state = STATE.format(at=NOW + hour * HOUR + 5, quality=quality, flags=8 if hour == 3 else 0)
        made.append(f"reading,meter={tag} volume={volume},flow={0.25 * hour},{state} {NOW + hour * HOUR}")
    rest = ["volume_actual", "volume_standard", "volume_reverse", "pressure", "temperature", "temperature_2", "power"]
    rest += ["energy_import", "energy_export", *(f"energy_import_t{t}" for t in range(1, 5))]
    rest += ["voltage", "current", "battery", "credit", "conversion_factor", "valve"]
    for hour in (0, 1):
        fields = ",".join(f"{name}={number + hour}.5" for number, name in enumerate(rest, 1))
        made.append(f"reading,meter={tag} {fields} {NOW + hour * HOUR}")
    other = STATE.format(at=NOW, quality=4, flags=0)
    made.append(f"reading,meter=other volume=77777.0,flow=9.0,{other} {NOW + HOUR}")
    return made


def post(server: ServerProcess, user: str, password: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        headers = {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}
        if path == "/query":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def as_grafana(query: str, meter: str = METER) -> str:
    """Fill in what Grafana fills in. `singlequote` puts a value between quotes and escapes those inside with a \\."""
    quoted = "'" + meter.replace("'", "\\'") + "'"
    window = f"time >= {NOW - HOUR}ms and time <= {NOW + 24 * HOUR}ms"
    filled = query.replace("${meter:singlequote}", quoted).replace("$timeFilter", window)
    return filled.replace("$__interval", "1h").replace("$interval", "1h")


def ask(server: ServerProcess, query: str) -> list[dict[str, Any]]:
    """Return the series of an answer, asked as Grafana's user."""
    body = urlencode({"db": "metergate", "epoch": "ms", "q": query}).encode()
    status, said = post(server, "grafana", "g", "/query", body)
    assert status == 200, said
    (result,) = json.loads(said)["results"]
    assert "error" not in result, f"{query}: {result}"
    found: list[dict[str, Any]] = result.get("series", [])
    return found


def query_of(title: str, alias: str) -> str:
    (query,) = [t["query"] for name, t in targets("meter.json") if name == title and t["alias"] == alias]
    return str(query)


def values(server: ServerProcess, title: str, alias: str) -> list[list[float]]:
    """Rows of a panel's query as (hours after NOW, value)."""
    (series,) = ask(server, as_grafana(query_of(title, alias)))
    return [[(row[0] - NOW) / HOUR, row[1]] for row in series["values"]]


@pytest.mark.parametrize("query", sorted({t["query"] for _, t in targets("meter.json")}))
def test_every_query_runs_and_finds_the_meter_s_own_readings(server: ServerProcess, query: str) -> None:
    assert query.count("${meter:singlequote}") == query.count("$timeFilter") == 1
    (series,) = ask(server, as_grafana(query))
    assert series["values"]
    assert "77777" not in json.dumps(series["values"])  # the other meter's
    assert ask(server, as_grafana(query, "nobody")) == []


def test_the_index_is_shown_as_stored_and_a_gap_stays_a_gap(server: ServerProcess) -> None:
    shown = values(server, "Index 表底数, gas and water", "volume")
    assert shown == [[0, 100.0], [1, 100.5], [3, 100.5], [4, 3.0]]


def test_consumption_is_the_difference_and_an_exchange_is_no_consumption(server: ServerProcess) -> None:
    shown = values(server, "Consumption 用量 per interval, gas and water", "volume")
    assert shown == [[1, 0.5], [3, 0.0]]


def test_flow_quality_and_counts(server: ServerProcess) -> None:
    assert values(server, "Flow", "flow") == [[0, 0.0], [1, 0.25], [3, 0.75], [4, 1.0]]
    assert values(server, "Quality and flags", "worst quality") == [[0, 0], [1, 0], [3, 1], [4, 0]]
    counted = {hour: count for hour, count in values(server, "Readings per interval", "readings")}  # noqa: C416 (rows are lists)
    assert [counted[hour] for hour in range(6)] == [1, 1, 0, 1, 1, 0]


def test_the_table_begins_with_the_newest_reading(server: ServerProcess) -> None:
    (series,) = ask(server, as_grafana(query_of("The newest readings", "")))
    newest = dict(zip(series["columns"], series["values"][0], strict=True))
    assert (newest["time"], newest["volume"], newest["meter"]) == (NOW + 4 * HOUR, 3.0, METER)


def test_a_meter_id_that_is_an_attack_is_only_a_name(server: ServerProcess) -> None:
    for attack in ("' OR '1'='1", '\'; DROP MEASUREMENT "reading"; --', "x' OR meter =~ /.*/ OR meter = '"):
        for _, target in targets("meter.json"):
            assert ask(server, as_grafana(target["query"], attack)) == []


def test_grafana_s_user_changes_nothing(server: ServerProcess) -> None:
    said = influx_command(server, 'DROP MEASUREMENT "reading"', u="grafana", p="g", db="metergate")
    assert "error" in said
    assert post(server, "grafana", "g", "/write?db=metergate", b"reading,meter=x volume=1")[0] == 403
    assert values(server, "Flow", "flow")
