"""Rows that are written later are written: with the next flush, before the commit, after what they refer to."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import Database
from store.errors import AlreadyThere
from store.later import set_later, write_later
from store.tables.charging import NumberSeries

SERIES = {"series": "s-1", "last_no": 1}


def test_what_is_written_later_is_there_for_the_next_statement_and_after_the_commit(database: Database) -> None:
    with database.write() as session:
        write_later(session, NumberSeries, SERIES)
        write_later(session, NumberSeries, SERIES | {"series": "s-2"})
        assert session.scalars(select(NumberSeries.series).order_by(NumberSeries.series)).all() == ["s-1", "s-2"]
        write_later(session, NumberSeries, SERIES | {"series": "s-3"})
    with database.read() as session:
        assert len(session.scalars(select(NumberSeries.series)).all()) == 3


def test_the_value_said_last_stands_and_a_row_that_is_there_is_passed_over(database: Database) -> None:
    with database.write() as session:
        write_later(session, NumberSeries, SERIES)
    with database.write() as session:
        for number in (2, 3):
            set_later(session, NumberSeries, {"series": "s-1"}, {"last_no": number})
        for name in ("s-1", "s-2"):
            write_later(session, NumberSeries, {"series": name, "last_no": 9}, if_absent=True)
    with database.read() as session:
        rows = session.execute(select(NumberSeries.series, NumberSeries.last_no).order_by(NumberSeries.series))
        assert [tuple(row) for row in rows] == [("s-1", 3), ("s-2", 9)]


def test_of_several_statements_sent_at_once_the_one_that_fails_says_so_and_nothing_is_kept(database: Database) -> None:
    with database.write() as session:
        write_later(session, NumberSeries, SERIES)

    def repeat() -> None:
        with database.write() as session:
            write_later(session, NumberSeries, {"series": "s-2", "last_no": 1}, if_absent=True)
            write_later(session, NumberSeries, SERIES)
            set_later(session, NumberSeries, {"series": "s-1"}, {"last_no": 9})

    with pytest.raises(AlreadyThere):
        repeat()
    with database.read() as session:
        assert session.execute(select(NumberSeries.series, NumberSeries.last_no)).all() == [("s-1", 1)]


def test_a_savepoint_that_is_undone_takes_what_was_kept_for_later_with_it(database: Database) -> None:
    with database.write() as session:
        write_later(session, NumberSeries, SERIES)
        undone = session.begin_nested()
        write_later(session, NumberSeries, SERIES | {"series": "s-2"})
        set_later(session, NumberSeries, {"series": "s-1"}, {"last_no": 9})
        undone.rollback()
    with database.read() as session:
        assert session.execute(select(NumberSeries.series, NumberSeries.last_no)).all() == [("s-1", 1)]


def test_what_is_written_later_in_a_transaction_that_fails_is_not_written(sqlite_database: Database) -> None:
    def give_up() -> None:
        with sqlite_database.write() as session:
            write_later(session, NumberSeries, SERIES)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        give_up()
    with sqlite_database.read() as session:
        assert session.scalars(select(NumberSeries.series)).all() == []


def test_a_session_that_would_forget_rows_takes_none() -> None:
    with pytest.raises(TypeError, match="sessions of the ledger"), Session() as session:
        write_later(session, NumberSeries, SERIES)
