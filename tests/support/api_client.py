"""A client of the API for tests: the application over real parts, in this process or behind a real uvicorn.

`ApiClient.signed_in` makes a person with the roles a test needs and returns a client that acts as them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from api.deps import Parts
from api.parts import open_limiter
from api.security import new_token, token_hash
from api.settings import Settings
from store.database import Database
from store.series import SeriesStore, open_series
from store.series_sqlite import create_schema
from store.tables.accounts import AccessToken, Person, Role, RoleGrant
from store.tables.registry import Org
from store.upsert import insert_if_absent
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from wire.clock import Clock, SystemClock

TEST_ORG = "org-test"


def open_test_series(folder: Path) -> SeriesStore:
    """An empty time-series store in `folder`."""
    create_schema(folder / "series.db")
    return open_series(f"sqlite:///{folder / 'series.db'}")


def test_parts(database: Database, series: SeriesStore, clock: Clock, **settings: Any) -> Parts:
    """The parts of an API over a test's database; limits are out of the way unless a test sets them.

    A `real_clock` among them judges tokens and limits instead of the machine's.
    """
    real = settings.pop("real_clock", None) or SystemClock()
    wide = dict.fromkeys(("login_limit", "registration_limit", "write_limit"), "10000/minute")
    chosen = Settings(**(wide | settings))
    return Parts(chosen, database, series, clock, open_limiter(chosen, database, real), real)


test_parts.__test__ = False  # type: ignore[attr-defined]


class ApiClient:
    """Sends requests as one person (or as nobody). Creating and editing requests get the headers they need."""

    def __init__(self, parts: Parts, http: httpx.Client, token: str | None = None, person_id: str = "") -> None:
        self.parts, self.http, self.token, self.person_id = parts, http, token, person_id

    def signed_in(
        self, *roles: Role, org_id: str = TEST_ORG, host_id: str = "", scopes: str = "read write", login: str = ""
    ) -> "ApiClient":
        """A client that acts as a new person of `org_id` with these roles (a lab manager's are bound to `host_id`)."""
        person_id = f"p-{uuid4().hex[:12]}"
        with self.parts.database.write() as session:
            add_person(session, self.parts, person_id, org_id, login or person_id, roles, host_id)
        return client_as(self, person_id, scopes)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request below /api/v1 (or to an absolute path given with a leading `//`)."""
        headers = dict(options.pop("headers", None) or {})
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        url = path[1:] if path.startswith("//") else f"/api/v1{path}"
        return self.http.request(method, url, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, *, key: str | None = None, **options: Any) -> httpx.Response:
        """POST with an Idempotency-Key of its own; give `key` to repeat one."""
        headers = {"Idempotency-Key": key or uuid4().hex} | dict(options.pop("headers", None) or {})
        return self.request("POST", path, json=json, headers=headers, **options)

    def edit(self, method: str, path: str, version: int, json: Any = None, **options: Any) -> httpx.Response:
        """PATCH, PUT or DELETE with the row version that was read."""
        return self.request(method, path, json=json, headers={"If-Match": f'"{version}"'}, **options)


def client_as(client: ApiClient, person_id: str, scopes: str = "read write") -> ApiClient:
    """A client that acts as somebody who is in the database already; once for each person."""
    token = new_token()
    with client.parts.database.write() as session:
        session.add(
            AccessToken(
                token_id=f"t-{person_id}",
                token_sha256=token_hash(token),
                kind="bearer",
                name="test",
                person_id=person_id,
                scopes=scopes,
                created_at=client.parts.real_now(),
                expires_at=client.parts.real_now() + timedelta(hours=1),
                revoked_at=None,
            )
        )
    return ApiClient(client.parts, client.http, token, person_id)


def add_person(
    session: Any, parts: Parts, person_id: str, org_id: str, login: str, roles: tuple[Role, ...], host_id: str = ""
) -> None:
    """Put a person with roles into the database; the test organisation is made where it is missing."""
    if org_id == TEST_ORG:
        insert_if_absent(
            session,
            Org,
            {
                "org_id": TEST_ORG,
                "uscc": "91990000TESTTEST00",
                "kind": "gov",
                "state": "active",
                "name_zh": "测试单位",
                "name_en": "Test office",
                "created_at": parts.now(),
                "row_version": 1,
            },
        )
    session.add(
        Person(
            person_id=person_id,
            login=login,
            name=f"测试人员 {login}",
            org_id=org_id,
            password_hash=None,
            language="zh",
            active=True,
            created_at=parts.now(),
            row_version=1,
        )
    )
    session.flush()
    for role in roles:
        scope = host_id if role is Role.LAB_MANAGER else ""
        session.add(
            RoleGrant(
                person_id=person_id, role=role, host_scope=scope, granted_by="system:test", granted_at=parts.now()
            )
        )
    session.flush()


@contextmanager
def in_process(parts: Parts, app: FastAPI | None = None) -> Iterator[ApiClient]:
    """A client of the application in this process: an unexpected error answers 500, as in production."""
    with (
        _an_app(parts, app) as application,
        TestClient(application, raise_server_exceptions=False, base_url="http://testserver") as http,
    ):
        yield ApiClient(parts, http)


_IDLE: dict[int, list[FastAPI]] = {}


@contextmanager
def _an_app(parts: Parts, given: FastAPI | None) -> Iterator[FastAPI]:
    """An application over these parts. Building one takes a fifth of a second and the framework's routers never let go
    of it (6 MB), so tests that come one after the other share one; what it knows of a county is in its parts."""
    if given is not None:
        yield given
        return
    idle = _IDLE.setdefault(parts.settings.body_bytes_max, [])
    app = idle.pop() if idle else create_app(parts)
    app.state.parts = parts
    try:
        yield app
    finally:
        idle.append(app)


@contextmanager
def behind_uvicorn(parts: Parts, app: FastAPI | None = None) -> Iterator[ApiClient]:
    """A client of the application behind a real server on a free port; several threads may share it."""
    config = uvicorn.Config(app or create_app(parts), host="127.0.0.1", port=free_port(), log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "uvicorn to start")
        limits = httpx.Limits(max_connections=100)
        with httpx.Client(base_url=f"http://127.0.0.1:{config.port}", timeout=60, limits=limits) as http:
            yield ApiClient(parts, http)
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive(), "uvicorn did not stop"
