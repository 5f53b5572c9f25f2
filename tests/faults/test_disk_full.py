"""A disk that fills up: usage takes the reserve, telemetry makes way and is counted, and it recovers by itself."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.embedded.reconcile import load_truths
from store.tables.usage import AgentStatus
from tests.faults.conftest import MakeSite
from tests.faults.site import Site
from tests.support.requirements import require
from tests.support.waiting import wait_until

SIZE = 24 * 1024 * 1024
# More than the two logs of the spools may grow to (1 MB each) before they are folded in.
RESERVE = 8 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB; needs root."""
    require(os.geteuid() == 0, "a small file system can only be mounted by root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(disk)], capture_output=True, text=True, check=False
    )
    require(mounted.returncode == 0, f"tmpfs could not be mounted: {mounted.stderr}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def free(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


def fill(disk: Path, leave: int) -> None:
    """Take all but `leave` bytes."""
    with (disk / "ballast").open("ab") as file:
        while (more := free(disk) - leave) > 0:
            try:
                file.write(bytes(min(more, 65536)))
                file.flush()
            except OSError:
                return


def dropped(site: Site, agent: str) -> int:
    """How many rows an agent says it had to drop, as the ledger knows it."""
    with site.database.read() as session:
        status = session.get(AgentStatus, agent)
        return 0 if status is None else status.dropped


def test_a_full_disk_costs_no_second_and_recovers_unattended(make_site: MakeSite, small_disk: Path) -> None:
    site = make_site(
        agents=1, speed=240, tick_ms=10_000, data_dir=str(small_disk / "spool"), usage_reserve_bytes=RESERVE
    )
    [agent] = site.agents
    site.start_all()
    site.await_records(10)
    fill(small_disk, RESERVE // 2)
    # The reserve belongs to usage alone: it goes on being recorded, sent and acknowledged, and telemetry makes way.
    site.await_records(60)
    site.wait(lambda: dropped(site, agent) > 0, "the county to hear that telemetry is dropped")
    fill(small_disk, 0)
    process = site.running[agent]
    wait_until(lambda: "cannot be written" in process.said(), f"the agent to meet the full disk; {process.said()}")
    before = site.upto(agent)
    (small_disk / "ballast").unlink()
    wait_until(lambda: "can be written again" in process.said(), "the agent to go on by itself")
    wait_until(lambda: site.upto(agent) > before + 20, "what waited in memory")
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
    assert verdict.streams == 1
    # What made way is counted by the agent, and the county was told how much it was.
    [truth] = load_truths(site.truth_file(agent))
    assert truth["telemetry"]["dropped"] > 0
    assert truth["usage"]["dropped"] == 0
    told = "the county to know how much telemetry is gone"
    wait_until(lambda: dropped(site, agent) == truth["telemetry"]["dropped"], told)


def test_an_agent_killed_on_a_full_disk_comes_back_when_there_is_room(make_site: MakeSite, small_disk: Path) -> None:
    site = make_site(agents=1, data_dir=str(small_disk / "spool"), usage_reserve_bytes=RESERVE)
    [agent] = site.agents
    site.start_all()
    site.await_records(10)
    fill(small_disk, 0)
    wait_until(lambda: "cannot be written" in site.running[agent].said(), "the agent to meet the full disk")
    site.kill(agent)
    site.start_agent(agent)
    # It cannot start without a place for its records; a service manager tries again and again.
    starts = site.starts[agent]
    wait_until(lambda: not site.running[agent].alive or "full" in site.running[agent].said(), "its refusal")
    (small_disk / "ballast").unlink()
    site.keep_alive()
    site.await_records(6)
    verdict = site.finish()
    verdict.assert_exact()
    assert site.starts[agent] <= starts + 1
    assert verdict.streams == 1, "a full disk is not a damaged spool"
