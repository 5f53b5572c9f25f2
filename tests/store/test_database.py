"""Transactions and types that behave alike on both engines: the traps of each are tried on the other too."""

import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from store.database import Database, open_database
from store.errors import AlreadyThere, StillReferenced
from store.tables.accounts import RoleGrant
from store.tables.charging import NumberSeries
from store.tables.registry import Org
from store.upsert import insert_if_absent, insert_or_update

MORNING = datetime(2026, 3, 2, 1, 0, 0, 123_000, tzinfo=UTC)


class _GivenUp(Exception):
    """Somebody changed their mind in the middle of a transaction."""


def _org(org_id: str, at: datetime = MORNING) -> Org:
    return Org(
        org_id=org_id,
        uscc=f"code of {org_id}",
        kind="sme",
        state="active",
        name_zh="示例",
        name_en="",
        created_at=at,
        row_version=1,
    )


def test_a_naive_datetime_is_refused_before_it_can_shift_by_eight_hours(database: Database) -> None:
    with pytest.raises(StatementError, match="no time zone"), database.write() as session:
        session.add(_org("o-1", datetime(2026, 3, 2, 9, 0)))  # noqa: DTZ001
    with database.read() as session:
        assert session.get(Org, "o-1") is None


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001
    st.integers(-14 * 60, 14 * 60),
)
def test_an_instant_comes_back_as_the_same_instant_to_the_millisecond(
    database: Database, wall: datetime, offset_minutes: int
) -> None:
    moment = wall.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    with database.write() as session:
        session.add(_org("o-1", moment))
        session.flush()
        session.expire_all()
        found = session.get_one(Org, "o-1").created_at
        session.rollback()
    assert found.utcoffset() == timedelta(0)
    assert timedelta(0) <= moment - found < timedelta(milliseconds=1)


def test_an_instant_is_stored_as_the_same_integer_on_both_engines(database: Database) -> None:
    with database.write() as session:
        session.add(_org("o-1", MORNING.astimezone(timezone(timedelta(hours=8)))))
    with database.read() as session:
        assert session.execute(text("SELECT created_at FROM org")).scalar_one() == 1_772_413_200_123


def test_a_row_written_in_a_savepoint_does_not_survive_the_outer_rollback(database: Database) -> None:
    with suppress(_GivenUp), database.write() as session:
        with session.begin_nested():
            session.add(NumberSeries(series="inside", last_no=1))
        raise _GivenUp
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(NumberSeries)) == 0


def test_a_failed_savepoint_leaves_the_rest_of_the_transaction(database: Database) -> None:
    with database.write() as session:
        session.add(NumberSeries(series="first", last_no=1))
        session.flush()
        with pytest.raises(IntegrityError) as caught, session.begin_nested():
            session.execute(text("INSERT INTO number_series (series, last_no) VALUES ('first', 2)"))
        assert isinstance(database.meaning_of(caught.value), AlreadyThere)
        session.add(NumberSeries(series="second", last_no=1))
    with database.read() as session:
        assert session.scalars(select(NumberSeries.series).order_by(NumberSeries.series)).all() == ["first", "second"]


def test_a_block_that_raises_writes_nothing(database: Database) -> None:
    with suppress(_GivenUp), database.write() as session:
        session.add(NumberSeries(series="a", last_no=1))
        session.flush()
        raise _GivenUp
    with database.read() as session:
        assert session.get(NumberSeries, "a") is None


def test_errors_of_the_driver_come_out_in_our_words(database: Database) -> None:
    with database.write() as session:
        session.add(_org("o-1"))
    with pytest.raises(AlreadyThere), database.write() as session:
        session.add(_org("o-1"))
    with pytest.raises(StillReferenced), database.write() as session:
        session.add(RoleGrant(person_id="nobody", role="sme", host_scope="", granted_by="x", granted_at=MORNING))


def test_what_a_check_forbids_is_refused_on_both_engines(database: Database) -> None:
    row = _org("o-1")
    row.kind = "somebody"
    with pytest.raises(IntegrityError, match="kind_known"), database.write() as session:
        session.add(row)


def test_writers_of_the_same_rows_come_one_after_the_other_and_lose_nothing(database: Database) -> None:
    with database.write() as session:
        session.add(NumberSeries(series="n", last_no=0))

    def count_up() -> None:
        for _ in range(25):
            with database.write() as session:
                row = session.scalars(select(NumberSeries).where(NumberSeries.series == "n").with_for_update()).one()
                row.last_no += 1

    threads = [threading.Thread(target=count_up) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as session:
        assert session.get_one(NumberSeries, "n").last_no == 150


def test_the_same_key_inserted_by_many_at_once_is_there_once(database: Database) -> None:
    inserted: list[bool] = []

    def insert() -> None:
        for number in range(20):
            with database.write() as session:
                inserted.append(insert_if_absent(session, NumberSeries, {"series": f"s{number}", "last_no": 1}))

    threads = [threading.Thread(target=insert) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(inserted), sum(inserted)) == (120, 20)


def test_insert_or_update_sets_only_what_it_is_told(database: Database) -> None:
    with database.write() as session:
        insert_or_update(session, NumberSeries, {"series": "a", "last_no": 1}, ["series"], ["last_no"])
        insert_or_update(session, NumberSeries, {"series": "a", "last_no": 7}, ["series"], ["last_no"])
    with database.read() as session:
        assert session.get_one(NumberSeries, "a").last_no == 7


def test_a_reader_sees_one_state_and_waits_for_no_writer(database: Database) -> None:
    with database.read() as reading:
        assert reading.scalar(select(func.count()).select_from(NumberSeries)) == 0
        with database.write() as writing:
            writing.add(NumberSeries(series="a", last_no=1))
            writing.flush()
            assert reading.scalar(select(func.count()).select_from(NumberSeries)) == 0
        assert reading.scalar(select(func.count()).select_from(NumberSeries)) == 0
    with database.read() as reading:
        assert reading.scalar(select(func.count()).select_from(NumberSeries)) == 1


def test_what_a_reader_writes_never_stays(database: Database) -> None:
    with suppress(DBAPIError), database.read() as session:  # PostgreSQL refuses it, SQLite takes it back
        session.add(NumberSeries(series="a", last_no=1))
        session.flush()
    with database.read() as session:
        assert session.get(NumberSeries, "a") is None


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'mysql'; known: postgresql, sqlite"):
        open_database("mysql://somewhere/x")


def test_one_look_reads_what_was_committed(database: Database) -> None:
    with database.write() as session:
        session.add(_org("o-1"))
    with database.look() as session:
        assert session.scalars(select(Org.org_id)).all() == ["o-1"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_that_lost_its_server_while_it_rested_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database._PING_AFTER_S", 0)
    whose = text("SELECT pg_backend_pid()")
    with database.write() as other:
        other.execute(whose)  # holds a connection of its own from here on
        with database.read() as session:
            rested = session.scalar(whose)
        other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": rested})
        with database.read() as session:
            assert session.scalar(whose) != rested
