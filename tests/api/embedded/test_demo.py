"""`openlab demo` as a visitor meets it: it starts, proves itself, ends without a trace, goes on, refuses clearly."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from api.cli import main
from api.embedded.folder import DemoFolder, DemoTime, FolderUnusable
from store.tables.registry import Host, Instrument, Lab
from store.tables.usage import UsageSession, UsageStream
from tests.support.console import call
from tests.support.databases import opened
from tests.support.ports import free_port


def run_demo(folder: Path, *arguments: str, timeout_s: float = 110) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "demo", "--data-dir", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )


def processes_about(folder: Path) -> Sequence[str]:
    """Command lines of living processes that name the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.timeout(240)
def test_a_demo_reconciles_all_agents_ends_without_a_trace_and_goes_on_where_it_stopped(tmp_path):
    folder = tmp_path / "data"
    first = run_demo(folder, "--for", "5s", "--speed", "60", "--port", str(free_port()))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "reconciliation: 82 of 82 agents agree" in first.stdout
    assert "/docs" in first.stdout
    assert "officer-1" in first.stdout
    assert processes_about(folder) == []
    reached = DemoTime(DemoFolder(folder)).reached_ms()
    with opened(DemoFolder(folder).database_url) as database, database.read() as session:
        counts = [session.scalar(select(func.count()).select_from(table)) for table in (Host, Lab, Instrument)]
        assert counts == [20, 82, 82]
        streams = set(session.scalars(select(UsageStream.stream).where(UsageStream.kind == "usage")))
        # What began before the demo did may be in doubt; nothing else in a county whose meters and clocks are right.
        assert set(session.scalars(select(UsageSession.flags))) <= {"", "narrow_contrast", "open_after_boot"}

    second = run_demo(folder, "--for", "2s", "--speed", "60", "--port", str(free_port()))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "reconciliation: 82 of 82 agents agree" in second.stdout
    assert processes_about(folder) == []
    went_on = DemoTime(DemoFolder(folder)).reached_ms()
    assert reached is not None
    assert went_on is not None
    assert went_on > reached
    with opened(DemoFolder(folder).database_url) as database, database.read() as session:
        assert set(session.scalars(select(UsageStream.stream).where(UsageStream.kind == "usage"))) == streams


def test_a_taken_port_is_named_and_nothing_is_started(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_demo(tmp_path / "data", "--port", str(port))
    assert ended.returncode == 2
    assert f"port {port} of this machine cannot be used" in ended.stderr
    assert "--port" in ended.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    ended = call(main, "demo", "--data-dir", str(tmp_path / "file" / "data"))
    assert ended.returncode == 2
    assert "cannot be written" in ended.stderr
    assert "--data-dir" in ended.stderr


def test_a_second_demo_on_the_same_folder_is_refused(tmp_path):

    folder = DemoFolder(tmp_path / "data")
    with open(folder.path / "demo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = call(main, "demo", "--data-dir", str(folder.path))
    assert ended.returncode == 2
    assert "already running" in ended.stderr


def test_a_broker_that_does_not_start_is_a_sentence_and_exit_code_2(tmp_path):
    folder = tmp_path / "data"
    DemoFolder(folder)
    (folder / "broker").write_text("in the way of the broker's own folder")
    ended = run_demo(folder, "--port", str(free_port()))
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "broker" in ended.stderr
    assert processes_about(folder) == []


def test_a_damaged_memory_of_the_demo_is_not_overwritten(tmp_path):
    folder = DemoFolder(tmp_path / "data")
    (folder.path / "demo.json").write_text('{"half": ')
    with pytest.raises(FolderUnusable, match="damaged"):
        folder.load_state()


def test_demo_time_goes_on_behind_everything_a_killed_demo_can_have_stamped(tmp_path):
    time = DemoTime(DemoFolder(tmp_path / "data"))
    time.begin(1_000_000, speed=60)
    time.reserve(1_500_000, speed=60)
    reached = time.reached_ms()
    assert reached is not None
    assert reached >= 1_500_000 + 5 * 60 * 1000
