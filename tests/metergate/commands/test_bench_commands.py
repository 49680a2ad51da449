"""record, replay, compare and inject as an engineer types them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from gateway.tap import TapOrder
from metergate.__main__ import build
from metergate.commands.record import _listen
from metergate.commands.replay import _hand_on
from metergate.settings import Settings
from metering.clock import SystemClock
from metering.messages import topic
from metering.mqtt import BrokerSettings, MqttSession, TcpLink
from metering.reading import Reading
from metering.recording import Frame, Header, encode_line, read_recording
from simulators.comparing import compare
from simulators.replay_rows import read_rows, renamed
from tests.brokers import embedded
from tests.brokers import running as broker_running
from tests.cases.test_cases import CASES
from tests.gateway.office import Office

ROOT = Path(__file__).resolve().parents[3]
CASE = CASES[0]
CLEAN = next(case for case in CASES if case.name.startswith("mbus-noise"))


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(build(["record", "replay", "compare", "inject"]), [str(word) for word in words])


@contextmanager
def program(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run a program of ours; hand out its first line."""
    command = [sys.executable, "-m", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()


def test_a_recording_is_decoded_and_compared_with_what_was_expected(tmp_path: Path) -> None:
    result = call(
        "replay", "decode", CASE / "recording.jsonl", "--plan", CASE / "plan.toml", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.stderr
    assert call("compare", CASE / "expected", tmp_path / "out").exit_code == 0
    lines = (tmp_path / "out" / "readings.jsonl").read_text().splitlines()
    (tmp_path / "out" / "readings.jsonl").write_text("\n".join(lines[1:]) + "\n")
    result = call("compare", CASE / "expected", tmp_path / "out")
    assert result.exit_code == 1
    (line,) = [json.loads(text) for text in result.stdout.splitlines()]
    assert (line["file"], line["only_in"], line["change"]) == ("readings", "A", None)
    assert "only in A 1, only in B 0, changed 0" in result.stderr


def test_without_out_rows_are_json_lines_and_bad_lines_are_named(tmp_path: Path) -> None:
    raw = (CASE / "recording.jsonl").read_bytes()
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(raw[: len(raw) // 2])
    result = call("replay", "decode", cut, "--plan", CASE / "plan.toml")
    assert result.exit_code == 0
    assert "the file was cut here" in result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"meter", "read_at", "values"} <= rows[0].keys()


def test_a_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("meter_id,ts,index\n")
    for words in (("decode", path, "--plan", CASE / "plan.toml"), ("serve", path), ("publish", path)):
        result = call("replay", *words)
        assert result.exit_code == 2
        assert "readings.csv: no recording" in result.stderr
    assert '--speed "fast"' in call("replay", "serve", CASE / "recording.jsonl", "--speed", "fast").stderr


def test_a_recording_is_served_recorded_again_and_decodes_to_the_same_values(tmp_path: Path) -> None:
    """decode(recording) and decode(recording of its replay on a real socket) read the same indexes of each meter."""
    serve = ("metergate", "replay", "serve", CLEAN / "recording.jsonl", "--serial", "tcp", "--speed", "max")
    with program(*serve) as (_, said):
        host, _, port = said["buses"]["b"].rpartition(":")
        text = (CLEAN / "plan.toml").read_text().replace('kind = "serial"', 'kind = "serial-tcp"')
        text = (
            text.replace('device = "recorded"', f'host = "{host}"\nport = {port}')
            .replace("= 10", "= 0.2")
            .replace("timeout_s = 0.5", "timeout_s = 5")
        )
        plan = tmp_path / "plan.toml"
        plan.write_text(text)
        result = call("record", "poll", "--plan", plan, "--out", tmp_path / "rec", "--seconds", "6")
        assert result.exit_code == 0, result.stderr
    recording = Path(result.stdout.strip())
    assert call("replay", "decode", recording, "--plan", plan, "--out", tmp_path / "out").exit_code == 0
    again, was = _indexes(tmp_path / "out"), _indexes(CLEAN / "expected")
    assert again.keys() == was.keys()
    for meter, indexes in again.items():
        assert len(indexes) >= 2
        assert was[meter][: len(indexes)] == indexes


def _indexes(folder: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for line in (folder / "readings.jsonl").read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["meter"], []).append(row["values"])
    return found


def test_record_tap_writes_the_order_that_a_gateway_looks_for(tmp_path: Path) -> None:
    config = tmp_path / "metergate.toml"
    config.write_text(f'[gateway]\noutbox = "{tmp_path}/outbox.db"\n')
    assert call("record", "tap", "--config", config, "--bus", "b", "--seconds", "60").exit_code == 0
    order = msgspec.json.decode((tmp_path / "tap.json").read_bytes(), type=TapOrder)
    assert order.buses == ("b",)
    assert 0 < order.until - SystemClock().now_ms() <= 60_000
    assert call("record", "tap", "--config", config, "--seconds", "0").exit_code == 0
    assert msgspec.json.decode((tmp_path / "tap.json").read_bytes(), type=TapOrder).until == 0


def test_messages_are_recorded_and_published_again_and_a_taps_lines_stay_lines(tmp_path: Path) -> None:
    frame = Frame(1.0, 1_772_323_200_000, "tx", "104005", "b", "W-1")

    async def record(port: int, out: Path, publish: Any, most: int) -> int:
        names, subscribed = ["pulse/+/state", topic("gw", "tap")], asyncio.Event()

        class Told(TcpLink):
            async def open(self) -> None:
                await super().open()
                subscribed.set()

        broker = BrokerSettings(port=port).carried_by(Told)
        listening = asyncio.ensure_future(_listen(names, broker, out, 300.0, SystemClock(), most=most))
        await subscribed.wait()
        await publish(port)
        return await listening

    async def by_hand(port: int) -> None:
        session = MqttSession(BrokerSettings(port=port), client_id="w", clock=SystemClock())
        link = asyncio.ensure_future(session.run())
        while not session.connected:
            await asyncio.sleep(0.02)
        await session.publish("pulse/W-8/state", b'{"total_m3":12.5}')
        await session.publish(topic("gw", "tap"), encode_line(Header(1, "gw")) + encode_line(frame))
        link.cancel()
        await asyncio.gather(link, return_exceptions=True)

    async def by_replay(port: int) -> None:
        config = tmp_path / "m.toml"
        config.write_text(f"[field_broker]\nport = {port}\n")
        words = ("replay", "publish", tmp_path / "a.jsonl", "--speed", "max", "--config", config)
        command = [sys.executable, "-m", "metergate", *map(str, words)]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        assert await process.wait() == 0

    with broker_running(embedded(tmp_path / "broker")) as broker:
        assert asyncio.run(record(broker.port, tmp_path / "a.jsonl", by_hand, 2)) == 2
        first = read_recording(tmp_path / "a.jsonl")
        assert [f.topic or f.hex for f in first.frames] == ["pulse/W-8/state", "104005"]
        asyncio.run(record(broker.port, tmp_path / "b.jsonl", by_replay, 1))
    (again,) = read_recording(tmp_path / "b.jsonl").frames
    assert (again.topic, again.data) == ("pulse/W-8/state", b'{"total_m3":12.5}')


def test_stored_readings_become_rows_of_another_gateway_in_an_outbox_of_its_own(tmp_path: Path) -> None:
    outbox = tmp_path / "replay" / "outbox.db"
    words = ("--readings", CASE / "expected" / "readings.jsonl", "--outbox", outbox, "--keep")
    result = call("replay", "stored", "--gateway", "gw-replay", *words)
    assert result.exit_code == 0, result.stderr
    assert f"kept in {outbox}" in result.stderr
    assert outbox.exists()
    assert call("replay", "stored", "--gateway", "office", *words).exit_code == 2
    assert call("replay", "stored", "--gateway", "gw", "--prefix", "", *words).exit_code == 2
    taken = call("replay", "stored", "--gateway", "gw-other", *words)
    assert taken.exit_code == 1
    assert "gw-replay" in taken.stderr


def test_stored_readings_are_sent_until_ingest_has_them(tmp_path: Path) -> None:
    """The other side acknowledges as ingest does; every value arrives under another id."""
    rows, _ = read_rows(CASE / "expected" / "readings.jsonl", "volume")

    async def scenario(port: int) -> Office:
        office = Office(tmp_path, port, "gw-replay")
        hearing = asyncio.ensure_future(office.run())
        settings = Settings(broker=BrokerSettings(port=port))
        named = list(renamed(rows, prefix="replay-"))
        assert await _hand_on(settings, "gw-replay", tmp_path / "o" / "outbox.db", named, 0.0, send=True)
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
        return office

    with broker_running(embedded(tmp_path / "broker")) as broker:
        office = asyncio.run(scenario(broker.port))
    came = {(row.meter, row.read_at): row.values for row in office.rows if isinstance(row, Reading)}
    assert came == {(f"replay-{row.meter}", row.read_at): row.values for row in rows}


def test_a_simulation_is_changed_listed_and_put_back(tmp_path: Path) -> None:
    farm = tmp_path / "farm.toml"
    farm.write_text(
        'control_port = 0\n[[port]]\nport = 0\n[[port.meter]]\nmeter = "G-1"\nprofile = "fuxin-corrector"\n'
    )
    with program("simulators.modbus_farm", "--config", farm, "--no-log") as (_, said):
        port = ("--port", str(said["control_port"]))
        assert call("inject", "fault", "G-1", "late", "--seconds", "3", *port).exit_code == 0
        assert call("inject", "flow", "G-1", "leak", "--rate", "0.5", *port).exit_code == 0
        listed = [json.loads(line) for line in call("inject", "list", *port).stdout.splitlines()]
        assert [(line["number"], line["meter"]) for line in listed] == [(1, "G-1"), (2, "G-1")]
        assert json.loads(call("inject", "undo", "1", *port).stdout) == {"ok": True, "undone": [1]}
        refused = call("inject", "fault", "G-9", "silent", *port)
        assert refused.exit_code == 1
        assert "there is no meter 'G-9'" in refused.stderr
    assert "allowed: none, silent" in call("inject", "fault", "G-1", "sleepy", *port).stderr
    assert call("inject", "list", *port).exit_code == 1
    assert "--port N, or --folder" in call("inject", "list").stderr


@pytest.mark.parametrize("words", [("record",), ("replay",), ("inject",)])
def test_each_of_their_commands_has_an_example(words: tuple[str, ...]) -> None:
    shown = call(*words, "--help").stdout
    for line in shown.splitlines():
        name = line.strip("│ ").split(" ")[0]
        if name in ("poll", "tap", "topic", "decode", "serve", "publish", "stored", "fault", "flow", "undo", "list"):
            assert f"Example: metergate {words[0]} {name}" in " ".join(call(*words, name, "--help").stdout.split())


def test_a_run_compared_with_itself_is_the_same() -> None:
    assert compare(CASE / "expected", CASE / "expected").same


def test_the_office_orders_a_tap_signed_and_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ordered on the command line it waits for the API service to send it; `tests/gateway` shows what it does."""
    monkeypatch.setenv("METERGATE__REGISTRY__URL", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("METERGATE__COMMANDS__SIGNING_KEY", str(tmp_path / "office.key"))
    meters = tmp_path / "meters.csv"
    head = "meter_id,medium,gateway,bus,host,port,address,profile,interval_s"
    meters.write_text(f"{head}\nW-1,gas,gw-1,b,127.0.0.1,5020,1,fuxin-corrector,60\n")
    app = build(["command", "import"])
    assert CliRunner().invoke(app, ["import", "meters", str(meters)]).exit_code == 0
    result = CliRunner().invoke(app, ["command", "tap", "gw-1", "--bus", "b", "--seconds", "60", "--to", "both"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["gateway"], said["name"], said["state"]) == ("gw-1", "tap", "waiting")
    unknown = CliRunner().invoke(app, ["command", "tap", "gw-9"])
    assert unknown.exit_code == 1
    assert 'no gateway "gw-9"' in unknown.stderr
