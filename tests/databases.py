"""Real databases on loopback for the tests: InfluxDB 1.6.7, VictoriaMetrics and PostgreSQL, all from Debian.

Each is a process of its own with files in a temporary folder; nothing of the machine's own services is touched.
"""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import urlencode

from tests.brokers import free_port


@dataclass
class ServerProcess:
    """A server that can be killed and started again on the same port and files. health: its path that says 2xx."""

    command: list[str]
    port: int
    folder: Path
    health: str
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, deadline_s: float = 60.0) -> None:
        """Start and wait until it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + deadline_s
        while not self._answers():
            said = (self.folder / "server.log").read_text("utf-8", "replace")[-2000:]
            assert self.process.poll() is None, f"{self.command[0]} ended: {said}"
            assert time.monotonic() < end, f"{self.command[0]} does not answer: {said}"
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        """Ask it to end; kill it when it does not."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", self.health)
            return connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is missing: `make test` installs the Debian packages of packages-debian.txt"
    return found


def influxd(folder: Path, *, auth: bool = False, extra: str = "") -> ServerProcess:
    """An InfluxDB 1.x with a generated configuration. extra: lines for its [data] section."""
    port, inner = free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "influxdb.conf"
    config.write_text(
        f"""reporting-disabled = true
bind-address = "127.0.0.1:{inner}"
[meta]
dir = "{folder}/meta"
logging-enabled = false
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
{extra}
[coordinator]
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
auth-enabled = {str(auth).lower()}
[subscriber]
enabled = false
[continuous_queries]
enabled = false
"""
    )
    return ServerProcess([_program("influxd"), "run", "-config", str(config)], port, folder, "/ping")


def victoria_metrics(folder: Path) -> ServerProcess:
    """A VictoriaMetrics; it speaks the /api/v2/write wire."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-storageDataPath={folder}/data",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-memory.allowedBytes=200MB",
    ]
    return ServerProcess([_program("victoria-metrics"), *options], port, folder, "/health")


@contextmanager
def serving(server: ServerProcess) -> Iterator[ServerProcess]:
    """Start, hand out, end. Killed, because nobody needs its files afterwards."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


def influx_command(server: ServerProcess, statement: str, **who: str) -> str:
    """Run an InfluxQL statement and return the answer's text. who: u and p, which only count in the address."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        body = urlencode({"q": statement})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/query?" + urlencode(who), body, kind)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@dataclass
class PostgresProcess:
    """A PostgreSQL cluster of its own: trust on loopback, no durability (nobody cuts the power of a test)."""

    folder: Path
    port: int
    bin: Path
    as_user: list[str]

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        )
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "-o", options, "start"
        )

    def stop(self, how: str = "immediate") -> None:
        """End it; "immediate" is what a crash looks like to its clients."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", how, "-w", "stop")

    def create(self, name: str, template: str = "template1") -> str:
        """Make a database as a copy of `template` and return its SQLAlchemy URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "metergate", "-T", template, name)
        return f"postgresql+psycopg://metergate@127.0.0.1:{self.port}/{name}"

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self._run("dropdb", "--force", "-h", "127.0.0.1", "-p", str(self.port), "-U", "metergate", name)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.as_user, str(self.bin / program), *arguments]
        log = self.folder / "commands.log"
        with log.open("ab") as output:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder)
        assert done.returncode == 0, f"{program}: {log.read_text('utf-8', 'replace')[-2000:]}"


@contextmanager
def postgres() -> Iterator[PostgresProcess]:
    """A running cluster. PostgreSQL refuses root, so that root lends it the Debian package's user."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert versions, "postgresql is missing: `make test` installs the Debian packages of packages-debian.txt"
    folder = Path(mkdtemp(prefix="metergate-pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    server = PostgresProcess(folder, free_port(), versions[-1], as_user)
    data = str(folder / "data")
    try:
        server._run("initdb", "-D", data, "-U", "metergate", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
