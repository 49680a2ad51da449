"""A period in registry and store gives the findings that its files give."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from anomaly.files import Readings
from anomaly.meters import MeterTable
from anomaly.run import run
from anomaly.stored import city_zone, read_period, read_places, slot_s
from anomaly.thresholds import load_thresholds
from ingest.store_sqlite import SqliteStore
from metergate.commands.backtest import backtest
from metergate.commands.detect import detect
from metering.clock import parse_rfc3339
from metering.errors import SettingsError
from metering.quantities import Quantity
from metering.reading import Reading
from registry.books import import_meters
from registry.database import Database
from registry.models import Installation, Meter
from tests.anomaly.fleet import SAMPLE, autumn_run, lines, sample_autumn

app = typer.Typer()
app.command()(detect)
app.command()(backtest)
OLD = "SM10046-old"
"""The meter that hung at SM10046 before its recorded exchange; the sample's files name usage points only."""
T0 = parse_rfc3339("2025-10-01T00:00:00Z")
BILLED: dict[str, Quantity] = {"gas": "volume", "water": "volume", "electricity": "energy_import"}


@dataclass(frozen=True)
class Site:
    """A registry and a store that hold the sample's autumn, and the rows of the files that a store can hold."""

    folder: Path
    t1: int
    table: MeterTable
    rows: Readings

    @property
    def config(self) -> Path:
        return self.folder / "metergate.toml"

    @property
    def database(self) -> Database:
        return Database(f"sqlite:///{self.folder}/registry.db")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The sample's autumn. The first value of a meter and time stays, as in ingest; clocks of 2000 are left out."""
    folder = tmp_path_factory.mktemp("site")
    table, rows = sample_autumn()
    t1 = (int(rows.received[-1]) + 1) * 1000
    inside = np.flatnonzero((rows.ts * 1000 >= T0) & (rows.ts * 1000 < t1))
    _, first = np.unique(np.stack([rows.meter[inside], rows.ts[inside]]), axis=1, return_index=True)
    rows = rows.take(inside[np.sort(first)])
    site = Site(folder, t1, table, rows)
    _fill_registry(site)
    _fill_store(site)
    text = f'[registry]\nurl = "sqlite:///{folder}/registry.db"\n[store]\npath = "{folder}/readings.db"\n'
    site.config.write_text(text, encoding="utf-8")
    return site


def _fill_registry(site: Site) -> None:
    """Import meters.csv as an operator does; end the observations of meters.csv; post the one exchange."""
    database = site.database
    database.upgrade()
    with database.begin() as connection:
        assert import_meters(connection, _without_exchanges()).bad == []
        for meter in site.table.meters:
            end = sa.update(Installation).where(Installation.meter_id == meter.meter_id)
            connection.execute(end.values(removed_at=meter.until_s * 1000))
        others = sa.select(Meter.id).where(Meter.id.not_in([meter.meter_id for meter in site.table.meters]))
        connection.execute(sa.delete(Installation).where(Installation.meter_id.in_(others)))
        at = site.table.meters[site.table.rows["SM10046"]].replaced_s * 1000
        new = connection.execute(sa.select(Installation.__table__).where(Installation.meter_id == "SM10046"))
        facts = dict(new.mappings().one()) | {"id": None, "meter_id": OLD, "removed_at": at}
        columns = [column for column in Meter.__table__.columns if column.computed is None]
        device = connection.execute(sa.select(*columns).where(Meter.id == "SM10046")).mappings().one()
        connection.execute(sa.insert(Meter), [dict(device) | {"id": OLD}])
        connection.execute(sa.insert(Installation), [facts])
        moved = sa.update(Installation).where(Installation.meter_id == "SM10046")
        connection.execute(moved.values(installed_at=at))
    database.close()


def _without_exchanges() -> str:
    """The sample's meters without replaced_at: the exchange is posted by hand, at the moment the files name."""
    with (SAMPLE / "meters.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    out = io.StringIO()
    writer = csv.DictWriter(out, [name for name in rows[0] if name != "replaced_at"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _fill_store(site: Site) -> None:
    meters, rows, store = site.table.meters, site.rows, SqliteStore(site.folder / "readings.db", mode="write")
    columns = zip(
        *(part.tolist() for part in (rows.meter, rows.ts, rows.received, rows.micro, rows.flags)), strict=True
    )
    readings = []
    for row, ts, received, micro, flags in columns:
        meter = meters[row]
        exchanged = meter.meter_id == "SM10046" and ts < meter.replaced_s
        name, values = OLD if exchanged else meter.meter_id, {BILLED[meter.medium]: micro}
        readings.append(Reading(name, ts * 1000, values, received_at=received * 1000, flags=flags))
    assert set(store.write(readings)) == {None}
    store.close()


def test_stored_period_gives_the_findings_of_the_files(site: Site) -> None:
    """Master data too: class, digits, resolution, Qmax, interval, commissioning, exchange and end of observation.

    The files carry 172 duplicates, 2 rows of the year 2000 and no second device at the exchange. The store holds the
    duplicates once and the two rows not at all, so only what was said of those clocks (info_clock) is not found.
    """
    store = SqliteStore(site.folder / "readings.db", mode="read")
    with site.database.read() as connection:
        places = read_places(connection, T0, site.t1)
    rows = read_period(store, places, T0, site.t1)
    store.close()
    assert sorted(places.table.meters, key=lambda m: m.meter_id) == site.table.meters
    assert places.notes == []
    assert (len(rows), rows.unknown_meters) == (len(site.rows), 0)
    assert len(rows) == len(sample_autumn()[1]) - 172 - 2
    assert (np.diff(rows.received) >= 0).all()
    expected = [line for line in lines(autumn_run()) if line["kind"] != "info_clock"]
    assert len({line["kind"] for line in expected}) == 10
    assert lines(run(places.table, rows, load_thresholds())) == expected


def test_commands_take_a_stored_period(site: Site, tmp_path: Path) -> None:
    period = ["--config", str(site.config), "--from", "2025-11-01", "--to", "2025-11-20"]
    result = CliRunner().invoke(app, ["backtest", *period, "--report", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    trial = json.loads(next(line for line in result.stdout.splitlines() if line.startswith("{")))
    assert "2025-11-01 to 2025-11-20" in (tmp_path / "page.html").read_text(encoding="utf-8")
    out = tmp_path / "findings.jsonl"
    result = CliRunner().invoke(app, ["detect", *period, "--out", str(out)])
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    real = [f for f in found if f["withdrawn_at"] is None and not f["kind"].startswith("info")]
    assert len(real) == sum(trial["alarms"].values()) > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs --from and --to"),
        (["--from", "2025-11-20", "--to", "2025-11-01"], "is not before"),
        (["--from", "20.11.2025", "--to", "2025-11-21"], "write a date"),
        (["--from", "2031-01-01", "--to", "2031-02-01"], "no meter that was installed"),
        (["--meters", "meters.csv"], "belong together"),
        (["--meters", "meters.csv", "--readings", "readings.csv"], "not both"),
    ],
)
def test_a_period_that_cannot_be_read_is_words_and_exit_code_2(site: Site, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["backtest", "--config", str(site.config), *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output


# --- what only a registry and a store can say --------------------------------------------------------------------

AT = parse_rfc3339("2026-03-01T00:00:00Z")
HOUR = 3_600_000
END = AT + 24 * HOUR


@pytest.fixture
def books(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path}/books.db")
    database.upgrade()
    return database


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "r.db", mode="write")


def _import(database: Database, rows: list[dict[str, str]]) -> None:
    header = list(rows[0])
    with database.begin() as connection:
        text = "\n".join([",".join(header), *(",".join(row[name] for name in header) for row in rows)])
        assert import_meters(connection, text).bad == []


def test_absent_facts_become_defaults_and_a_note(books: Database) -> None:
    _import(books, [{"meter_id": "G1", "medium": "gas"}, {"meter_id": "E1", "medium": "electricity"}])
    with books.read() as connection:
        assert city_zone(connection) == "Asia/Shanghai"
        places = read_places(connection, AT, END)
    electric, gas = places.table.meters
    assert (gas.meter_id, gas.unit, gas.qmax_per_h, gas.customer_class) == ("G1", "m3", 6_000_000, "other")
    assert (electric.meter_id, electric.unit, electric.qmax_per_h) == ("E1", "kWh", 15_000_000)
    assert (gas.index_digits, gas.resolution, gas.interval_s, gas.commissioned) == (6, 10_000, 3600, True)
    assert sum("a default is used" in note for note in places.notes) == 4
    assert any("no commissioning dates" in note for note in places.notes)


def test_a_meter_without_commissioning_date_among_dated_ones_is_not_commissioned(books: Database) -> None:
    dates = {"A": "2020-01-01", "B": "", "C": "2027-01-01"}
    _import(books, [{"meter_id": name, "medium": "gas", "commission_date": day} for name, day in dates.items()])
    with books.read() as connection:
        table = read_places(connection, AT, END).table
    assert [(m.meter_id, m.commissioned) for m in table.meters] == [("A", True), ("B", False), ("C", False)]


def test_what_is_not_judged_is_counted_and_the_rest_comes_in_order_of_arrival(
    books: Database, store: SqliteStore
) -> None:
    _import(books, [{"meter_id": "G1", "medium": "gas"}, {"meter_id": "G2", "medium": "gas"}])
    store.write(
        [
            Reading("G1", AT + 1 * HOUR, {"volume": 1}, received_at=AT + 5 * HOUR, flags=2 | 64),
            Reading("G1", AT + 2 * HOUR, {"volume": 2}, received_at=AT + 3 * HOUR),
            Reading("G1", AT + 3 * HOUR, {"volume": 3}, received_at=END),
            Reading("G1", AT + 4 * HOUR, {"volume": 4}, received_at=END - 1, quality="estimated"),
            Reading("G1", AT + 5 * HOUR, {"flow": 9}, received_at=AT + 5 * HOUR),
            Reading("G1", END, {"volume": 5}, received_at=END),
            Reading("G2", AT + 4 * HOUR, {"volume": 6}, received_at=END + 90 * 24 * HOUR, source="import"),
            Reading("stranger", AT, {"volume": 7}, received_at=AT),
        ]
    )
    with books.read() as connection:
        places = read_places(connection, AT, END)
    rows = read_period(store, places, AT, END)
    store.close()
    assert [places.table.meters[i].meter_id for i in rows.meter.tolist()] == ["G1", "G2", "G1"]
    assert rows.micro.tolist() == [2, 6, 1]
    assert ((rows.received - AT // 1000) // 3600).tolist() == [3, 4, 5]
    assert rows.flags.tolist() == [0, 0, 2]
    assert rows.unknown_meters == 1
    notes = " / ".join(note for note in places.notes if note.startswith("store"))
    assert "1 readings that arrived after the period" in notes
    assert "1 readings that are estimates" in notes
    assert "1 readings of 1 meters that are not installed" in notes


def test_a_meter_that_moved_serves_two_usage_points(books: Database, store: SqliteStore) -> None:
    _import(books, [{"meter_id": "G1", "medium": "gas"}, {"meter_id": "G2", "medium": "gas"}])
    with books.begin() as connection:
        stays = sa.update(Installation)
        connection.execute(stays.where(Installation.meter_id == "G1").values(removed_at=AT + 6 * HOUR))
        connection.execute(stays.where(Installation.meter_id == "G2").values(removed_at=AT + 8 * HOUR))
        again = {"meter_id": "G1", "usage_point_id": "G2", "installed_at": AT + 8 * HOUR}
        connection.execute(sa.insert(Installation), [again])
    store.write([Reading("G1", AT + hour * HOUR, {"volume": hour}, received_at=END - 1) for hour in (5, 7, 9)])
    with books.read() as connection:
        places = read_places(connection, AT, END)
    rows = read_period(store, places, AT, END)
    store.close()
    first, second = places.table.meters
    assert (first.meter_id, first.until_s, first.replaced_s) == ("G1", (AT + 6 * HOUR) // 1000, 0)
    assert (second.meter_id, second.until_s, second.replaced_s) == ("G1", 0, (AT + 8 * HOUR) // 1000)
    assert list(zip(rows.meter.tolist(), rows.micro.tolist(), strict=True)) == [(0, 5), (1, 9)]
    assert any("1 readings from before or after" in note for note in places.notes)


def test_an_empty_store_is_words(books: Database, store: SqliteStore) -> None:
    _import(books, [{"meter_id": "G1", "medium": "gas"}])
    with books.read() as connection:
        places = read_places(connection, AT, END)
    with pytest.raises(SettingsError, match="no readings"):
        read_period(store, places, AT, END)
    store.close()


@pytest.mark.parametrize(
    ("interval", "slot"),
    [
        (None, 3600),
        (10, 900),
        (900, 900),
        (1000, 3600),
        (1800, 1800),
        (5000, 86_400),
        (86_400, 86_400),
        (604_800, 86_400),
    ],
)
def test_a_meter_is_judged_in_steps_that_divide_a_day(interval: int | None, slot: int) -> None:
    assert slot_s(interval) == slot
