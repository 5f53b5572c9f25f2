"""Pushing to a Grafana: a small server keeps what it is sent and answers as Grafana does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dashboards.build import all_dashboards
from dashboards.push import main
from tests.support.ports import free_port

SECRETS = {"GRAFANA_TOKEN": "a-token", "INFLUX_READ_TOKEN": "reads-influx", "GRAFANA_DB_PASSWORD": "reads-postgres"}


class StubGrafana(ThreadingHTTPServer):
    """Folders, data sources and dashboards by uid; `calls` holds method and path in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[tuple[str, str]] = []
        self.kept: dict[str, dict[str, Any]] = {}
        self.refuse: str | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StubGrafana

    def do_GET(self) -> None:
        self._answer(*self._found(self.path))

    def do_POST(self) -> None:
        body = self._body()
        uid = body["dashboard"]["uid"] if "dashboard" in body else body["uid"]
        place = {"/api/folders": "/api/folders", "/api/datasources": "/api/datasources/uid"}.get(self.path, self.path)
        self._keep(f"{place}/{uid}", body)

    def do_PUT(self) -> None:
        self._keep(self.path, self._body())

    def _keep(self, path: str, body: dict[str, Any]) -> None:
        if self.server.refuse is not None and self.server.refuse in path:
            self._answer(403, {"message": "this token may only look"})
            return
        self.server.kept[path] = body
        self._answer(200, {"status": "success"})

    def _found(self, path: str) -> tuple[int, dict[str, Any]]:
        if path in self.server.kept:
            return 200, self.server.kept[path]
        return 404, {"message": "not found"}

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return body

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.server.calls.append((self.command, self.path))
        if self.headers.get("Authorization") != "Bearer a-token":
            status, body = 401, {"message": "Unauthorized"}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are not told of each request."""


@pytest.fixture
def grafana() -> Iterator[StubGrafana]:
    """A running stub."""
    server = StubGrafana()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def push(port: int, **secrets: str) -> Any:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, ["--url", f"http://127.0.0.1:{port}"], env={**SECRETS, **secrets})


def test_everything_arrives_with_data_sources_before_the_dashboards_that_need_them(grafana: StubGrafana) -> None:
    result = push(grafana.server_port)
    assert result.exit_code == 0, result.output
    assert set(grafana.kept) == {
        "/api/datasources/uid/openlab-influx",
        "/api/datasources/uid/openlab-postgres",
        "/api/folders/openlab",
        *(f"/api/dashboards/db/{one['uid']}" for one in all_dashboards().values()),
    }
    written = [path for method, path in grafana.calls if method == "POST"]
    assert written == ["/api/datasources"] * 2 + ["/api/folders"] + ["/api/dashboards/db"] * 3


def test_a_dashboard_overwrites_its_older_self_in_our_folder(grafana: StubGrafana) -> None:
    assert push(grafana.server_port).exit_code == 0
    sent = grafana.kept["/api/dashboards/db/openlab-health"]
    assert sent["folderUid"] == "openlab"
    assert sent["overwrite"] is True
    assert sent["dashboard"] == {**all_dashboards()["openlab-health.json"], "id": None}


def test_a_second_push_updates_and_creates_nothing_twice(grafana: StubGrafana) -> None:
    assert push(grafana.server_port).exit_code == 0
    first = dict(grafana.kept)
    grafana.calls.clear()
    assert push(grafana.server_port).exit_code == 0
    assert set(grafana.kept) == set(first)
    assert [path for method, path in grafana.calls if method == "PUT"] == [
        "/api/datasources/uid/openlab-influx",
        "/api/datasources/uid/openlab-postgres",
        "/api/folders/openlab",
    ]


def test_secrets_go_into_the_part_that_grafana_encrypts(grafana: StubGrafana) -> None:
    assert push(grafana.server_port).exit_code == 0
    for uid, secret in (("openlab-influx", "reads-influx"), ("openlab-postgres", "reads-postgres")):
        sent = grafana.kept[f"/api/datasources/uid/{uid}"]
        assert secret in str(sent.pop("secureJsonData"))
        assert secret not in str(sent)


def test_a_wrong_token_is_a_sentence_and_exit_1(grafana: StubGrafana) -> None:
    result = push(grafana.server_port, GRAFANA_TOKEN="another-token")
    assert result.exit_code == 1
    assert "did not take everything: Unauthorized" in result.output
    assert grafana.kept == {}


def test_a_refused_dashboard_is_named_and_exit_1(grafana: StubGrafana) -> None:
    grafana.refuse = "openlab-use-and-money"
    result = push(grafana.server_port)
    assert result.exit_code == 1
    assert "openlab-use-and-money" in result.output
    assert "may only look" in result.output


def test_a_grafana_that_is_not_there_is_a_sentence_and_exit_1() -> None:
    port = free_port()
    result = push(port)
    assert result.exit_code == 1
    assert f"Grafana at http://127.0.0.1:{port} did not take everything" in result.output
