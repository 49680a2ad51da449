"""What it costs to know who asks, and to write down what he changed.

    python -m benchmarks.access [--rows 2000] [--postgresql]

One line each: a check of a password with the parameters of the settings, finding the session or key of a request
(with its transaction, as the API does when nothing is remembered), a small change with and without its audit row,
each in a transaction of its own, and the check of a whole chain. PostgreSQL is one of its own on loopback, with
fsync off: its rows tell of the program, not of a disk.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from metering.clock import SystemClock
from registry import audit, keys, passwords, sessions, users
from registry.anchors import anchor
from registry.audit_check import check
from registry.database import Database
from registry.models_access import UnknownLogin
from registry.roles import Role, console
from registry.settings import AccessSettings
from tests.databases import postgres

ROOT = console("benchmark")
LIMITS = AccessSettings()
DAY_MS = 86_400_000


class _Silent:
    """A log that nobody reads."""

    def info(self, event: str, **facts: object) -> None: ...

    def error(self, event: str, **facts: object) -> None: ...


def median_us(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median wall time and mean CPU time of one call [µs]."""
    walls = []
    cpu = time.process_time()
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        walls.append(time.perf_counter() - begin)
    return statistics.median(walls) * 1e6, (time.process_time() - cpu) / rounds * 1e6


def show(where: str, what: str, wall: float, cpu: float) -> None:
    """One line of the report."""
    print(f"{where:12} {what:44} {wall:10.0f} µs   CPU {cpu:8.0f} µs")


def password() -> None:
    """The one slow step, slow on purpose."""
    stored = passwords.hash_password("a blue horse on a hill", LIMITS)
    what = f"password, {LIMITS.argon2_time} x {LIMITS.argon2_memory_kib >> 10} MiB"
    show("argon2", what, *median_us(lambda: passwords.verify(stored, "a blue horse on a hill", LIMITS), 20))
    passwords.verify("", "x", LIMITS)
    show("argon2", "unknown user", *median_us(lambda: passwords.verify("", "x", LIMITS), 20))


def access(where: str, database: Database, rows: int, folder: Path) -> None:
    """Sessions, keys and audit of one database with 200 users, sessions and keys."""
    now = SystemClock().now_ms()
    token, text = fill(database, now)

    def session() -> None:
        with database.read() as connection:
            assert sessions.find(connection, token, now) is not None

    def key() -> None:
        with database.read() as connection:
            assert keys.find(connection, text, now) is not None

    def plain() -> None:
        with database.begin() as connection:
            connection.execute(sa.update(UnknownLogin).values(failed=UnknownLogin.failed + 1))

    def audited() -> None:
        with database.begin() as connection:
            connection.execute(sa.update(UnknownLogin).values(failed=UnknownLogin.failed + 1))
            audit.append(
                connection, ROOT, "meter.edit", "meter", "G-1", at=now, before={"qmax": 4}, after={"qmax": 6}
            )

    show(where, "find the session of a request", *median_us(session, 1000))
    show(where, "find the key of a request", *median_us(key, 1000))
    show(where, "a change without audit", *median_us(plain, rows // 10))
    show(where, "a change with its audit row", *median_us(audited, rows // 10))
    with database.begin() as connection:
        for number in range(rows):
            audit.append(connection, ROOT, "meter.edit", "meter", number, at=now, after={"qmax": number})
    path = folder / f"{where}.jsonl"
    anchor(database, path, _Silent(), now)
    begin = time.perf_counter()
    verdict = check(database, path)
    assert not verdict.faults
    print(f"{where:12} {'audit verify':44} {(time.perf_counter() - begin) / verdict.rows * 1e6:10.1f} µs a row")


def fill(database: Database, now: int) -> tuple[str, str]:
    """Make users with a session and a key each; return the last one's."""
    token = text = ""
    with database.begin() as connection:
        connection.execute(sa.insert(UnknownLogin).values(bucket=0, failed=0, locked_until=0))
        for number in range(200):
            about = {"name": f"user{number}", "display_name": "", "roles": (Role.VIEWER,), "ranks": ()}
            user, _ = users.create(connection, ROOT, areas=None, at=now, **about)  # type: ignore[arg-type]  # a dict of words
            token, _ = sessions.open_session(connection, user.id, "", now, LIMITS)
            text, _ = keys.create(
                connection,
                ROOT,
                name="key",
                roles=(Role.VIEWER,),
                areas=None,
                read_only=True,
                expires_at=now + DAY_MS,
                at=now,
            )
    return token, text


@contextmanager
def databases(folder: Path, with_postgresql: bool) -> Iterator[dict[str, Database]]:
    """The databases to measure, with all tables."""
    with ExitStack() as stack:
        found = {"sqlite": Database(f"sqlite:///{folder / 'registry.db'}")}
        if with_postgresql:
            found["postgresql"] = Database(stack.enter_context(postgres()).create("access"))
        for database in found.values():
            database.upgrade()
            stack.callback(database.close)
        yield found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000, help="audit rows to check")
    parser.add_argument("--postgresql", action="store_true", help="also on a PostgreSQL of its own")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    password()
    with TemporaryDirectory() as folder, databases(Path(folder), chosen.postgresql) as found:
        for where, database in found.items():
            access(where, database, chosen.rows, Path(folder))


if __name__ == "__main__":
    main()
