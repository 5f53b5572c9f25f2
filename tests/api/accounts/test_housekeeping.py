"""What is not needed any more goes, by the worker, after as many days as the settings say."""

from datetime import timedelta

from sqlalchemy import select

from api.accounts.housekeeping import BITE, drop_old_keys, housekeeping
from api.chores import chores_of
from api.settings import Settings
from api.work import Work, system_actor
from api.worker import Worker
from store.database import Database
from store.series import SeriesStore
from store.tables.accounts import AttemptCount, IdempotencyKey
from wire.clock import ManualClock, from_ms

DAY_MS = 86_400_000


def add_key(database: Database, clock: ManualClock, key: str, days_ago: float) -> None:
    with database.write() as session:
        session.add(
            IdempotencyKey(
                principal="p-1",
                route="POST /x",
                key=key,
                request_sha256="",
                status=201,
                answer=b"{}",
                created_at=from_ms(clock.now_ms() - int(days_ago * DAY_MS)),
            )
        )


def keys(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(IdempotencyKey.key)))


def test_the_worker_forgets_answers_after_the_days_that_are_set(
    database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    for days in (0, 2.9, 3.1, 30):
        add_key(database, clock, f"{days}", days)
    with database.write() as session:
        for key, days in (("old", 3), ("new", 1)):
            since = from_ms(clock.now_ms() - days * DAY_MS)
            session.add(AttemptCount(kind="login", key=key, since=since, count=5))
    worker = Worker(database, api_series, clock, chores=chores_of(Settings(idempotency_days=3), api_series))
    worker.plan()
    worker.run_once()
    assert keys(database) == {"0", "2.9"}
    with database.read() as session:
        assert set(session.scalars(select(AttemptCount.key))) == {"new"}
    clock.advance(DAY_MS)
    worker.run_once()
    assert keys(database) == {"0"}


def test_a_week_is_kept_unless_it_is_set() -> None:
    assert Settings().idempotency_days == 7


def test_it_bites_small_and_is_harmless_to_repeat(sqlite_database: Database, clock: ManualClock) -> None:
    assert BITE >= 1000
    add_key(sqlite_database, clock, "old", 8)
    for gone in (1, 0):
        with sqlite_database.write() as session:
            work = Work(session, system_actor("test"), from_ms(clock.now_ms()))
            assert drop_old_keys(work, work.now - timedelta(days=7)) == gone
            housekeeping(7)(work)
