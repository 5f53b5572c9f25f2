"""What is old goes by itself, once a night, as far as it is settled and what is left can be verified."""

from sqlalchemy import func, select

from api.chores import chores_of
from api.settings import Settings
from api.worker import Worker
from store.database import Database
from store.ledger import commit_usage
from store.series import END_MS, HOUR_MS, Sample, SeriesStore
from store.tables.usage import Alert, UsageRecordRow
from tests.store.test_retention import settle
from tests.support.usage import NINE, StreamWriter, add_registry
from wire.clock import ManualClock

DAY_MS = 24 * HOUR_MS


def count(database: Database, writer: StreamWriter) -> int:
    with database.read() as session:
        rows = select(func.count()).select_from(UsageRecordRow).where(UsageRecordRow.stream == writer.stream)
        return session.scalar(rows) or 0


def test_each_night_the_worker_lets_go_what_is_older_than_the_days_that_are_set(
    database: Database, api_series: SeriesStore
) -> None:
    with database.write() as session:
        instruments = add_registry(session)
    sound, odd = (StreamWriter(instrument) for instrument in instruments)
    for writer in (sound, odd):
        name = writer.run(minutes=30)
        with database.write() as session:
            commit_usage(session, writer.arrivals(), writer.now_ms, "gateway:test")
        settle(database, name, off_by_ms=1 if writer is odd else 0)
    api_series.write([Sample("xc-h01-01", NINE + at, 700_000, 2) for at in (0, 10 * DAY_MS)])
    clock = ManualClock(NINE + 8 * DAY_MS)  # nine in the morning; the night begins at three
    worker = Worker(database, api_series, clock, chores=chores_of(Settings(expire_days=7), api_series))
    worker.plan()
    worker.run_once()
    assert count(database, sound) == sound.seq
    clock.advance(18 * HOUR_MS)
    worker.run_once()
    assert (count(database, sound), count(database, odd)) == (2, odd.seq)
    assert [s.at_ms for s in api_series.read("xc-h01-01", 0, END_MS)] == [NINE + 10 * DAY_MS]
    with database.read() as session:
        [alert] = session.scalars(select(Alert).where(Alert.rule == "ticks_kept"))
        assert (alert.subject, alert.owner) == (f"{odd.agent}/{odd.stream}", "h01")
    clock.advance(DAY_MS)
    worker.run_once()
    with database.read() as session:
        assert session.scalars(select(Alert.times).where(Alert.rule == "ticks_kept")).one() == 2
