"""Rows that are written later are written: with the next flush, before the commit, after what they refer to."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from store.database import Database
from store.later import write_later
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
