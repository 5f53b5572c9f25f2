"""What one instrument costs in rows and bytes: `python -m benchmarks.growth [--days 30]`.

A working instrument writes a tick a minute day and night and six runs a working day. The ledger is filled with so many
days, measured, then its ticks are dropped as `openlab expire` does, and it is measured again (SQLite, compacted).
"""

import argparse
import sqlite3
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select

from store.database import Database, open_database
from store.ledger import commit_usage, drop_ticks
from store.migrations import upgrade
from store.tables.calendar import UnbookedUse
from store.tables.usage import UsageEntry, UsageRecordRow, UsageSession
from tests.support.usage import StreamWriter, add_registry, at
from wire.messages import PowerState

RUNS_A_DAY, RUN_MINUTES, DAY_MINUTES = 6, 45, 1440
AT_ONCE = 500


def live_a_day(writer: StreamWriter) -> None:
    """Six runs of three quarters of an hour, standby for the rest, a record a minute."""
    spare = (DAY_MINUTES - RUNS_A_DAY * (RUN_MINUTES + 1)) // RUNS_A_DAY
    for _ in range(RUNS_A_DAY):
        writer.run(minutes=RUN_MINUTES)
        for _ in range(spare):
            writer.tick(PowerState.STANDBY, 60)


def settle_all(database: Database) -> None:
    """Say of all use that it was the host's own."""
    with database.write() as session:
        for row in session.scalars(select(UsageSession).where(UsageSession.ended_at.is_not(None))):
            session.add(
                UnbookedUse(
                    session_id=row.session_id,
                    from_at=row.started_at,
                    instrument_id=row.instrument_id,
                    to_at=row.ended_at or row.last_at,
                    running_ms=row.odo_running_last_ms - row.odo_running_first_ms,
                    unknown_ms=0,
                    found_at=row.last_at,
                    purpose="internal",
                    classified_by="bench",
                    classified_at=row.last_at,
                )
            )


def size(path: Path) -> int:
    """Bytes of a compacted database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


def rows(database: Database) -> tuple[int, int, int]:
    """How many records, chain links and sessions there are."""
    with database.read() as session:
        found = [
            session.scalar(select(func.count()).select_from(t)) for t in (UsageRecordRow, UsageEntry, UsageSession)
        ]
    return found[0] or 0, found[1] or 0, found[2] or 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    days = parser.parse_args().days
    with tempfile.TemporaryDirectory(prefix="openlab-bench-") as folder:
        path = Path(folder) / "openlab.db"
        database = open_database(f"sqlite:///{path}")
        upgrade(database.engine)
        with database.write() as session:
            [instrument] = add_registry(session, 1)
        empty = size(path)
        writer = StreamWriter(instrument)
        for _ in range(days):
            live_a_day(writer)
        arrivals = writer.arrivals()
        for start in range(0, len(arrivals), AT_ONCE):
            with database.write() as session:
                commit_usage(session, arrivals[start : start + AT_ONCE], writer.now_ms, "bench")
        settle_all(database)
        for what in ("all kept", "ticks dropped"):
            records, links, sessions = rows(database)
            taken = size(path) - empty
            print(
                f"{what:14} {days} days: {records:,} records, {links:,} links, {sessions:,} sessions, "
                f"{taken / 1e6:.1f} MB; a year: {records * 365 // days:,} records, {taken * 365 / days / 1e6:.0f} MB"
            )
            if what == "all kept":
                with database.write() as session:
                    end = at(writer.now_ms) + timedelta(days=1)
                    drop_ticks(session, (writer.agent, writer.stream), end, writer.now_ms, "bench")
        database.dispose()


if __name__ == "__main__":
    main()
