"""`openlab serve --workers`: several processes behind one socket, none of which outlives the one that started them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from api.serving import listen
from api.settings import BadSettings, load_settings
from tests.support.ports import free_port
from tests.support.waiting import wait_until

PATIENCE_S = 120


class Served:
    """A running `openlab serve` with two workers."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "api.cli", "serve", "--workers", "2", "--port", str(self.port)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENLAB_")}
        given = clean | {"OPENLAB_DATA_DIR": str(home), "TMPDIR": str(home)}
        self.process = psutil.Popen(command, env=given, stdout=subprocess.DEVNULL)
        wait_until(lambda: self.answers("/readyz"), "the API to be ready", PATIENCE_S)

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_S).status_code == 200
        except httpx.TransportError:
            return False

    def workers(self) -> set[int]:
        """The processes that have begun to serve: each of them keeps counters in a file of its own."""
        folders = list(Path(self.process.environ()["TMPDIR"]).glob("openlab-counters-*"))
        return {int(each.stem.rpartition("_")[2]) for folder in folders for each in folder.glob("counter_*.db")} & {
            child.pid for child in self.process.children()
        }

    def counted(self) -> float:
        """How often `/healthz` was answered, by what the page of one process says of all of them."""
        lines = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE_S).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if 'requests_total{method="GET",route="/healthz"' in line)


@contextmanager
def served(home: Path) -> Iterator[Served]:
    migrated = {name: value for name, value in os.environ.items() if not name.startswith("OPENLAB_")}
    migrate = [sys.executable, "-m", "api.cli", "migrate", "--data-dir", str(home)]
    subprocess.run(migrate, env=migrated, check=True, stdout=subprocess.DEVNULL)
    running = Served(home)
    family = [running.process, *running.process.children(recursive=True)]
    try:
        yield running
    finally:
        for process in family + (running.process.children(recursive=True) if running.process.is_running() else []):
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                process.kill()
        running.process.wait()


def test_workers_listen_on_one_address_that_nobody_else_gets() -> None:
    settings = load_settings(host="127.0.0.1", port=0, workers=2)
    sockets = listen(settings)
    try:
        one, other = (each.getsockname() for each in sockets)
        assert one == other
        for workers in (1, 2):
            with pytest.raises(BadSettings, match="cannot listen on"):
                listen(load_settings(host="127.0.0.1", port=one[1], workers=workers))
    finally:
        for each in sockets:
            each.close()


@pytest.mark.slow
def test_workers_count_together_are_replaced_and_end_with_their_parent(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers to serve", PATIENCE_S)
        for _ in range(20):
            assert running.answers("/healthz")
        assert running.counted() == 20
        lost = min(running.workers())
        psutil.Process(lost).kill()
        wait_until(lambda: len(running.workers() - {lost}) == 2, "another worker in its place", PATIENCE_S)
        assert running.answers("/healthz")
        assert running.counted() == 21  # what the lost one had counted still counts
        children = running.process.children(recursive=True)
        running.process.send_signal(signal.SIGKILL)
        _, left = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert left == []
