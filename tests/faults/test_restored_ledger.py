"""The ledger is put back to an older copy while the agents run: they send again what it lost."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from tests.faults.site import Site


def test_a_ledger_restored_from_an_older_copy_gets_back_every_second(site: Site, tmp_path: Path) -> None:
    path = Path(str(make_url(site.database_url).database))
    site.start_all()
    site.await_records(12)
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as backup:
        live.backup(backup)
    before = {agent: site.upto(agent) for agent in site.agents}
    site.await_records(20)
    site.kill("gw-1")
    site.database.dispose()
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    shutil.copy(copy, path)
    assert all(site.upto(agent) <= before[agent] for agent in site.agents)
    site.start_gateway()
    site.await_records(25)
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
