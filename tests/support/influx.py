"""A real InfluxDB for tests: Debian's 1.6 behind a proxy that gives it the write address of 2.x.

What 1.6 lacks is only the name of the write endpoint; its line protocol checks and its InfluxQL are the real ones.
"""

import http.client
import os
import signal
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.ports import free_port
from tests.support.requirements import require_binary
from tests.support.waiting import wait_until

_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
{data_settings}
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
"""
_PRECISION = {"ns": "n", "us": "u", "ms": "ms", "s": "s"}


class _Rewriter(BaseHTTPRequestHandler):
    """Pass everything on to `upstream`; `/api/v2/write?bucket=` becomes `/write?db=`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    upstream: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = urllib.parse.urlsplit(self.path)
        path = self.path
        if parts.path == "/api/v2/write":
            asked = dict(urllib.parse.parse_qsl(parts.query))
            renamed = {"db": asked["bucket"], "precision": _PRECISION[asked.get("precision", "ns")]}
            path = "/write?" + urllib.parse.urlencode(renamed)
        kept = {name: value for name, value in self.headers.items() if name in ("Content-Type", "Authorization")}
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            upstream.request(self.command, path, body, kept)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        self.send_response(answer.status)
        if answer.status != 204:
            self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Tests are not told of each request."""


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up waiting (that is what some tests are about) is no news."""


class InfluxServer:
    """One server process and its proxy. `start` skips (in CI: fails) where influxd is not installed."""

    def __init__(self, folder: Path, data_settings: str = "") -> None:
        self._folder = folder
        self._data_settings = data_settings
        self._http_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._proxy: _Proxy | None = None

    def start(self) -> None:
        """Start both and wait until the server answers."""
        program = require_binary("influxd", "apt-get install influxdb")
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "influxdb.conf"
        settings = {"folder": self._folder, "rpc": free_port(), "http": self._http_port}
        config.write_text(_CONFIG.format(data_settings=self._data_settings, **settings))
        log = (self._folder / "influxd.log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [program, "-config", config], stdout=log, stderr=log, env={**os.environ, "HOME": str(self._folder)}
            )
        wait_until(self._answers, "influxd answers")
        handler = type("Rewriter", (_Rewriter,), {"upstream": self._http_port})
        self._proxy = _Proxy(("127.0.0.1", 0), handler)
        threading.Thread(target=self._proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def url_of(self, database: str, timeout_ms: int = 10_000) -> str:
        """Return the address of a database as the product's settings would name it."""
        assert self._proxy is not None
        return f"influxdb://127.0.0.1:{self._proxy.server_port}/openlab/{database}?timeout_ms={timeout_ms}"

    def create(self, database: str) -> None:
        """Make an empty database."""
        self.query(f'CREATE DATABASE "{database}"')

    def drop(self, database: str) -> None:
        """Remove a database and its points."""
        self.query(f'DROP DATABASE "{database}"')

    def query(self, statement: str, database: str = "") -> bytes:
        """Run one InfluxQL statement past the product, and return the server's answer."""
        return self._post("/query", urllib.parse.urlencode({"q": statement, "db": database}).encode())

    def write_line(self, database: str, line: str) -> None:
        """Write one line (milliseconds) past the product, as another program would."""
        self._post(f"/write?db={database}&precision=ms", line.encode())

    @contextmanager
    def hung(self) -> Iterator[None]:
        """The server accepts connections and never answers, as behind a broken disk."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def disk_bytes(self) -> int:
        """Return the size of all data and write-ahead files."""
        files = [*(self._folder / "data").rglob("*"), *(self._folder / "wal").rglob("*")]
        return sum(file.stat().st_size for file in files if file.is_file())

    def stop(self) -> None:
        """Stop both and wait until they are gone."""
        if self._proxy is not None:
            self._proxy.shutdown()
            self._proxy.server_close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _post(self, path: str, body: bytes) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self._http_port}{path}", body)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"influxd ended: {(self._folder / 'influxd.log').read_text()[-2000:]}")
        try:
            self.query("SHOW DATABASES")
        except OSError:
            return False
        return True
