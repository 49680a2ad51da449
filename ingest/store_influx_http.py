"""The wire to an InfluxDB: kept connections, both ways of writing, and a few threads that post at the same time.

Every fault of the line or of the server is a `StoreError` that names the server and says what a person can do.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

from ingest.settings import InfluxSettings
from metering.errors import StoreError

_SAID: Final = 500
"""Characters of a server's answer that go into an error."""

_STALE: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Answer(NamedTuple):
    """What a server said to a post."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300


def authorisation(settings: InfluxSettings) -> dict[str, str]:
    """Return the headers that say who we are: token, or user name and password, or nothing."""
    token, password = settings.token.get_secret_value(), settings.password.get_secret_value()
    if token:
        return {"Authorization": f"Token {token}"}
    if settings.username:
        pair = base64.b64encode(f"{settings.username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}


class Link:
    """One kept connection, used by one thread at a time."""

    def __init__(self, settings: InfluxSettings) -> None:
        self._url = urlsplit(settings.url)
        self._headers = authorisation(settings)
        self._timeout_s = settings.timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        """POST and return the answer, whose body is still to be read. Raises: StoreError when there is none."""
        while True:
            kept, connection = self._connection is not None, self._open()
            try:
                connection.request(
                    "POST", self._url.path.rstrip("/") + path, body, {**self._headers, **(headers or {})}
                )
                return connection.getresponse()
            except _STALE as error:
                self.close()
                if not kept:
                    raise self._fault(error) from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise self._fault(error) from error

    def read(self, answer: http.client.HTTPResponse) -> bytes:
        """Return the rest of an answer. Raises: StoreError."""
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._fault(error) from error

    def lines(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the lines of an answer as they come. Raises: StoreError."""
        try:
            while line := answer.readline():
                yield line
            answer.read()  # with a known length `readline` does not see the end; the connection is free only after it
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._fault(error) from error

    def close(self) -> None:
        """Close; the next `ask` opens a new connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            secure = self._url.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        return self._connection

    def _fault(self, error: Exception) -> StoreError:
        where = f"{self._url.scheme}://{self._url.hostname}:{self._url.port or ''}"
        return StoreError(f"no answer from the InfluxDB at {where}: {error or type(error).__name__}")


class Links:
    """Connections for several threads: taken for one conversation, given back, or closed when it broke off."""

    def __init__(self, settings: InfluxSettings) -> None:
        self._settings = settings
        self._idle: list[Link] = []
        self._lock = Lock()

    @contextlib.contextmanager
    def taken(self) -> Iterator[Link]:
        """Hand out a connection; it is kept for the next one only when the conversation came to its end."""
        with self._lock:
            link = self._idle.pop() if self._idle else Link(self._settings)
        try:
            yield link
        except BaseException:
            link.close()
            raise
        with self._lock:
            self._idle.append(link)

    def close(self) -> None:
        """Close every idle connection."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()


class Writer(Protocol):
    """A way of posting lines."""

    def post(self, lines: bytes) -> Answer:
        """Return what the server said. Raises: StoreError when it said nothing."""

    def close(self) -> None:
        """Release the connections."""


class PlainWriter:
    """`/write` of InfluxDB 1.x (2.x and 3 have it too)."""

    def __init__(self, settings: InfluxSettings, links: Links) -> None:
        named = {"db": settings.database, "rp": settings.retention_policy, "precision": "ms"}
        self._path = "/write?" + urlencode({name: value for name, value in named.items() if value})
        self._links = links

    def post(self, lines: bytes) -> Answer:
        """See `Writer.post`."""
        with self._links.taken() as link:
            answer = link.ask(self._path, lines)
            return Answer(answer.status, link.read(answer).decode("utf-8", "replace")[:_SAID])

    def close(self) -> None:
        """Nothing is open: the connections belong to the store."""


class ClientWriter:
    """`/api/v2/write` of 1.8 and later, 2.x and 3, through `influxdb-client`'s synchronous write.

    Only that one: of its batching writes 1000 of 1000 points were gone on 400, 401 or 503, and nothing was raised.
    """

    def __init__(self, settings: InfluxSettings) -> None:
        # half a second of imports that only the v2 way needs
        from influxdb_client.client.influxdb_client import InfluxDBClient
        from influxdb_client.client.write_api import SYNCHRONOUS

        self._bucket = settings.bucket
        self._org = settings.org
        self._url = settings.url
        self._client: Any = InfluxDBClient(
            settings.url,
            token=settings.token.get_secret_value(),
            org=settings.org,
            timeout=round(settings.timeout_s * 1000),
            retries=False,
            connection_pool_maxsize=settings.connections,
        )
        self._api: Any = self._client.write_api(write_options=SYNCHRONOUS)

    def post(self, lines: bytes) -> Answer:
        """See `Writer.post`."""
        return self._call(lambda: self._api.write(self._bucket, self._org, lines, write_precision="ms"))

    def create_bucket(self, retention_days: int) -> Answer:
        """Make the bucket unless it is there; the answer says whether that was allowed."""
        buckets = self._client.buckets_api()
        rules = [{"type": "expire", "everySeconds": retention_days * 86_400}]

        def make() -> None:
            if buckets.find_bucket_by_name(self._bucket) is None:
                buckets.create_bucket(bucket_name=self._bucket, org=self._org, retention_rules=rules)

        return self._call(make)

    def _call(self, work: Callable[[], Any]) -> Answer:
        from influxdb_client.rest import ApiException
        from urllib3.exceptions import HTTPError

        try:
            work()
        except ApiException as error:
            body = error.body or error.reason or ""
            text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
            return Answer(error.status or 0, text[:_SAID])
        except (HTTPError, OSError) as error:
            raise StoreError(f"no answer from the InfluxDB at {self._url}: {error}") from error
        return Answer(204, "")

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class Crew:
    """A few hands that post at the same time; the caller is one of them, the others are daemon threads."""

    def __init__(self, hands: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._others = [Thread(target=self._work, name="influx-post", daemon=True) for _ in range(hands - 1)]
        for thread in self._others:
            thread.start()

    def put(self, call: Callable[[], Any]) -> Future[Any]:
        """Let the next free hand do it."""
        future: Future[Any] = Future()

        def job() -> None:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (it is raised where the result is asked for)
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def help(self) -> None:
        """Do what still waits, in the caller's thread."""
        with contextlib.suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job()

    def close(self) -> None:
        """Let the others go when they are done."""
        for _ in self._others:
            self._jobs.put(None)
        self._others = []

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
