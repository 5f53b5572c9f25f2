"""The ledger is put back to an older copy while the agents run: they send again what it lost."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, make_url

from tests.faults.conftest import MakeSite
from tests.faults.grounds import BOTH, Ground, on_grounds

SIX_HOURS = 6 * 3_600_000

PutBack = Callable[[], None]
"""Replaces the ledger by the copy. Nobody is connected to it."""


def copy_sqlite(url: str, folder: Path) -> PutBack:
    """Copy the file while it is written to."""
    path, copy = Path(str(make_url(url).database)), folder / "copy.db"
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as backup:
        live.backup(backup)

    def put_back() -> None:
        for file in path.parent.glob(path.name + "*"):
            file.unlink()
        shutil.copy(copy, path)

    return put_back


def copy_postgresql(url: str, folder: Path) -> PutBack:
    """Copy the database inside its server, which takes a moment without connections."""
    name = str(make_url(url).database)
    server = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")

    def run(*statements: str) -> None:
        with server.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        server.dispose()

    run(
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        f"CREATE DATABASE {name}_copy TEMPLATE {name}",
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
    )
    return lambda: run(f"DROP DATABASE {name} WITH (FORCE)", f"ALTER DATABASE {name}_copy RENAME TO {name}")


COPIES = {"sqlite": copy_sqlite, "postgresql": copy_postgresql}


@on_grounds(BOTH)
def test_a_ledger_restored_from_a_copy_of_six_hours_ago_gets_back_every_second(
    make_site: MakeSite, ground: Ground, tmp_path: Path
) -> None:
    site = make_site(speed=3600.0, period_ms=20_000, tick_ms=120_000, hours=100.0)
    site.start_all()
    site.await_records(5)
    site.database.dispose()
    put_back = COPIES[ground.engine](site.database_url, tmp_path)
    copied_ms = site.clock.now_ms()
    before = {agent: site.upto(agent) for agent in site.agents}
    six_hours_later = {agent: upto + SIX_HOURS // 120_000 for agent, upto in before.items()}
    site.wait(lambda: all(site.upto(agent) >= upto for agent, upto in six_hours_later.items()), "six hours of records")
    site.wait(lambda: site.clock.now_ms() - copied_ms >= SIX_HOURS, "six hours")
    site.kill("gw-1")
    site.database.dispose()
    put_back()
    assert all(site.upto(agent) <= before[agent] for agent in site.agents)
    site.start_gateway()
    site.wait(lambda: all(site.upto(agent) >= upto for agent, upto in six_hours_later.items()), "what was lost")
    site.await_records(10)
    verdict = site.finish()
    verdict.assert_exact()
    assert verdict.unknown_ms == 0
