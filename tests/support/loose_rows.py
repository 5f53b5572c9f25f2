"""Rows made up column by column, with foreign keys and checks out of the way for their insertion only: for tests of
what either engine refuses of rows that are there."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, inspect, text

from store.database import Database

MADE_UP_AT = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


@contextmanager
def loose(database: Database, *tables: Table) -> Iterator[Connection]:
    """A transaction in which any row may be inserted: no keys, and no checks of these tables."""
    engine = database.engine
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            raw = connection.connection.driver_connection
            connection.rollback()
            assert raw is not None
            raw.execute("PRAGMA foreign_keys=OFF")
            raw.execute("PRAGMA ignore_check_constraints=ON")
            try:
                with connection.begin():
                    yield connection
            finally:
                raw.execute("PRAGMA ignore_check_constraints=OFF")
                raw.execute("PRAGMA foreign_keys=ON")
        return
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # no foreign keys
        for table in tables:
            for check in inspect(connection).get_check_constraints(table.name):
                connection.execute(text(f'ALTER TABLE {table.name} DROP CONSTRAINT "{check["name"]}"'))
        yield connection


def made_up(table: Table, **given: Any) -> dict[str, Any]:
    """A row with something in every column."""
    samples: dict[type, Any] = {str: "x", int: 1, bytes: b"x", bool: True, datetime: MADE_UP_AT}
    values = {}
    for column in table.columns:
        python_type = datetime if column.type.__class__.__name__ == "UtcDateTime" else column.type.python_type
        values[column.name] = samples[python_type]
    return values | given


def insert_loose(database: Database, table: Table, **given: Any) -> None:
    """Put in one made-up row with these values in it."""
    with loose(database, table) as connection:
        connection.execute(insert(table).values(made_up(table, **given)))
