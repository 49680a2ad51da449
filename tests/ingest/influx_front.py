"""A front before a real InfluxDB 1.x: it speaks the v2 wire to us and the v1 wire to the server, and can misbehave.

What it proves: our use of `/api/v2/write`, tokens, buckets and InfluxQL by bucket name, with a real engine behind.
What it does not: how an InfluxDB 2.x or 3 itself answers; `METERGATE_TEST_INFLUX_URL` runs the suite against one.
"""

from __future__ import annotations

import http.client
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit


class Front:
    """mode: "pass", "drop" (writes get 204 and go nowhere), or a status that every request gets."""

    def __init__(self, port: int, token: str = "") -> None:
        self.mode: str | int = "pass"
        self.token = token
        self.behind = port
        self.requests: list[str] = []
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                front._serve(self)

            def do_GET(self) -> None:
                front._serve(self)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.requests.append(f"{request.command} {request.path}")
        status, answer = self._answer(request, body)
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        if status != 204:
            request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer if status != 204 else b"")

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        url = urlsplit(request.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if isinstance(self.mode, int):
            return self.mode, json.dumps({"code": "no", "message": f"told to say {self.mode}"}).encode()
        if self.token and request.headers.get("Authorization") != f"Token {self.token}":
            return 401, b'{"code":"unauthorized","message":"unauthorized access"}'
        if url.path in ("/write", "/api/v2/write"):
            if self.mode == "drop":
                return 204, b""
            named = {"db": asked.get("bucket") or asked["db"], "precision": asked["precision"]}
            return self._forward("POST", "/write?" + urlencode(named), body, {})
        if url.path == "/query":
            kind = {"Content-Type": request.headers.get("Content-Type", "")}
            return self._forward("POST", request.path, body, kind)
        if url.path == "/api/v2/buckets":
            return self._buckets(asked.get("name", ""), body)
        if url.path == "/api/v2/orgs":
            return 200, b'{"orgs":[{"id":"00000000000000aa","name":"org"}]}'
        return 404, b'{"code":"not found","message":"no such path"}'

    def _buckets(self, name: str, body: bytes) -> tuple[int, bytes]:
        if not body:
            _, said = self._query("SHOW DATABASES")
            found = [{"id": "00000000000000bb", "name": name, "retentionRules": []}] if f'["{name}"]' in said else []
            return 200, json.dumps({"buckets": found}).encode()
        wanted = json.loads(body)
        days = wanted["retentionRules"][0]["everySeconds"] // 86_400
        self._query(f'CREATE DATABASE "{wanted["name"]}"' + (f" WITH DURATION {days}d" if days else ""))
        return 201, json.dumps({"id": "00000000000000bb", "name": wanted["name"], "retentionRules": []}).encode()

    def _query(self, statement: str) -> tuple[int, str]:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        status, said = self._forward("POST", "/query", urlencode({"q": statement}).encode(), kind)
        return status, said.decode()

    def _forward(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 503, b'{"code":"unavailable","message":"nobody behind"}'
        finally:
            connection.close()
