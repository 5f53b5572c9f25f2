"""Several API processes at one address, as in production, and a rush of requests that starts at one instant.

`several_workers(url, n)` starts n uvicorn processes, each with a socket of its own, and ends them; `rush` opens
all connections first, sends all requests then, and times each answer. Used by the race test and the benchmark.
"""

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil

from api.security import new_token, token_hash
from api.serving import listen
from api.settings import load_settings
from store.database import Database
from store.series_sqlite import create_schema
from store.tables.accounts import AccessToken, Person, Role, RoleGrant
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answered:
    """One answer: status, body and the seconds from sending to its last byte."""

    status: int
    body: Any
    seconds: float


@dataclass(frozen=True)
class Asked:
    """One request below /api/v1."""

    method: str
    path: str
    token: str
    body: Any = None

    def wire(self) -> bytes:
        """Return it as HTTP/1.1."""
        payload = b"" if self.body is None else json.dumps(self.body).encode()
        head = (
            f"{self.method} /api/v1{self.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n"
            f"Idempotency-Key: {uuid4().hex}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload


@dataclass(frozen=True)
class Workers:
    """Running API processes: their one port on 127.0.0.1 and their process ids."""

    port: int
    pids: tuple[int, ...]

    def processor_s(self) -> float:
        """Seconds of processor time that they have used so far."""
        times = [psutil.Process(pid).cpu_times() for pid in self.pids]
        return sum(each.user + each.system for each in times)


@contextmanager
def several_workers(database_url: str, workers: int, folder: Path) -> Iterator[Workers]:
    """Run so many API processes over a migrated database; yields their one port on 127.0.0.1 and their ids."""
    create_schema(folder / "series.db")
    settings = load_settings(host="127.0.0.1", port=free_port(), workers=workers)
    sockets, port = listen(settings), settings.port
    environment = os.environ | {
        "OPENLAB_DATA_DIR": str(folder),
        "OPENLAB_DATABASE_URL": database_url,
        "OPENLAB_WRITE_LIMIT": "1000000/minute",
    }
    command = [sys.executable, "-m", "tests.support.api_workers"]
    numbers = [listening.fileno() for listening in sockets]
    processes = [
        subprocess.Popen([*command, str(number)], cwd=ROOT, env=environment, pass_fds=[number]) for number in numbers
    ]
    try:
        wait_until(lambda: _all_ready(port, processes), "the API processes to answer", 60)
        yield Workers(port, tuple(process.pid for process in processes))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        for listening in sockets:
            listening.close()


def _all_ready(port: int, processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    # One address: ask often enough that each process has answered.
    assert all(process.poll() is None for process in processes), "an API process ended"
    try:
        for _ in range(8 * len(processes)):
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5)
    except httpx.TransportError:
        return False
    return True


def sign_in_people(
    database: Database, people: int, orgs: Sequence[str] = ("org-a", "org-b"), role: Role = Role.SME
) -> list[str]:
    """Make so many people of organisations, with a role and a token each; return the tokens."""
    tokens, now = [], datetime.now(UTC)
    with database.write() as session:
        for number in range(people):
            person_id, token = f"p-rush-{role.value}-{number:03d}", new_token()
            session.add(
                Person(
                    person_id=person_id,
                    login=person_id,
                    name=f"测试人员 {number}",
                    org_id=orgs[number % len(orgs)],
                    password_hash=None,
                    language="zh",
                    active=True,
                    created_at=now,
                    row_version=1,
                )
            )
            session.flush()
            session.add(
                RoleGrant(
                    person_id=person_id,
                    role=role,
                    host_scope="",
                    granted_by="system:test",
                    granted_at=now,
                )
            )
            session.add(
                AccessToken(
                    token_id=f"t-{person_id}",
                    token_sha256=token_hash(token),
                    kind="bearer",
                    name="rush",
                    person_id=person_id,
                    scopes="read write",
                    created_at=now,
                    expires_at=now + timedelta(hours=6),
                    revoked_at=None,
                )
            )
            tokens.append(token)
    return tokens


def rush(port: int, asked: Sequence[Asked]) -> list[Answered]:
    """Send all requests at one instant, each on a connection of its own that is open before."""
    return asyncio.run(_rush(port, asked))


async def _rush(port: int, asked: Sequence[Asked]) -> list[Answered]:
    open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in asked]
    wires = [each.wire() for each in asked]
    began = time.monotonic()
    for (_, writer), wire in zip(open_ones, wires, strict=True):
        writer.write(wire)
    answers = await asyncio.gather(*(read_answer(reader, began) for reader, _ in open_ones))
    for _, writer in open_ones:
        writer.close()
    return [Answered(status, json.loads(body) if body else None, seconds) for status, body, seconds in answers]


async def read_answer(reader: asyncio.StreamReader, began: float) -> tuple[int, bytes, float]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    lengths = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
    body = await reader.readexactly(lengths[0]) if lengths else b""
    return int(lines[0].split(" ")[1]), body, time.monotonic() - began


def main() -> None:
    """Serve on the socket whose number is the first argument, until terminated."""
    import uvicorn

    from api.app import create_app
    from api.parts import close_parts, open_parts
    from api.settings import load_settings

    parts = open_parts(load_settings())
    try:
        config = uvicorn.Config(create_app(parts), log_level="error", access_log=False)
        gc.collect()
        gc.freeze()  # as `openlab serve` does
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
    finally:
        close_parts(parts)


if __name__ == "__main__":
    main()
