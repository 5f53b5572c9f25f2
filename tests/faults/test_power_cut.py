"""The spool as a power cut may leave it: at any instant, with the log torn at any byte. It opens, whole up to there."""

import os
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from edge_agents.outbox import Outbox
from tests.faults.conftest import MakeSite
from wire.messages import StreamKind

SNAPSHOTS = 8
CUTS = 12


def test_a_power_cut_at_any_instant_leaves_a_spool_that_opens(make_site: MakeSite, tmp_path: Path) -> None:
    seed = 5
    print(f"seed {seed}")
    chance = random.Random(seed)
    site = make_site(agents=1, speed=600, tick_ms=20_000)
    [agent] = site.agents
    site.start_all()
    for number in range(SNAPSHOTS):
        site.await_records(chance.randint(1, 12))
        # The whole disk at one instant: the process stands still while it is copied.
        os.kill(site.running[agent].pid, signal.SIGSTOP)
        snapshot = tmp_path / f"disk-{number}"
        shutil.copytree(site.spool(agent), snapshot)
        os.kill(site.running[agent].pid, signal.SIGCONT)
        whole = reopened(snapshot, tmp_path / "whole")
        size = (snapshot / "usage.db-wal").stat().st_size
        for _ in range(CUTS):
            shutil.copytree(snapshot, torn := tmp_path / "torn")
            os.truncate(torn / "usage.db-wal", chance.randint(0, size))
            rows = reopened(torn, torn)
            assert rows == whole[: len(rows)]
            shutil.rmtree(torn)
    site.finish().assert_exact()


def reopened(folder: Path, at: Path) -> list[bytes]:
    """Open a copy as the agent would; return its rows, after a look that they and the checkpoint belong together."""
    if folder != at:
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(folder, at)
    box = Outbox(at / "usage.db", StreamKind.USAGE)
    assert box.lost is None
    rows = [row.payload for row in box.rows(0, 100_000)]
    assert len(rows) == box.last_seq
    assert box.damaged_rows == 0
    assert (box.checkpoint is None) == (box.last_seq == 0 and box.checkpoint is None)
    box.close()
    with closing(sqlite3.connect(at / "usage.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return rows
