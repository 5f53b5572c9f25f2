"""Many rows at a time, by the fastest way that each engine has. Called by store.database, which knows the engine.

Values are as the database holds them (text, integers). Errors are the driver's, as of any statement.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session

from store.later import Statement

Table = type[DeclarativeBase]
_ROWS = 100  # in a statement of SQLite


def fetched(connection: Connection, statement: Executable, at_once: int) -> Iterator[Sequence[Any]]:
    """From a driver that reads on as rows are asked for, in its own tuples."""
    result = connection.execute(statement)
    try:
        while rows := result.cursor.fetchmany(at_once):
            yield rows
    finally:
        result.close()


def streamed(connection: Connection, statement: Executable, at_once: int) -> Iterator[Sequence[Any]]:
    """From a driver that would read all rows at first, with a cursor on the server; in its own tuples as well."""
    result = connection.execute(statement, execution_options={"yield_per": at_once})
    try:
        # Not from the cursor itself: the first row has been read from it.
        while rows := result.cursor_strategy.fetchmany(result, result.cursor, at_once):
            yield rows
    finally:
        result.close()


def insert_rows(session: Session, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """One prepared statement for all rows."""
    marks = ", ".join("?" for _ in names)
    statement = f"INSERT INTO {table.__tablename__} ({', '.join(names)}) VALUES ({marks})"
    session.connection().exec_driver_sql(statement, list(rows))


def copy_rows(session: Session, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """A stream of rows to the server."""
    with _copying(session, table, names) as copy:
        for row in rows:
            copy.write_row(row)


def insert_lines(
    session: Session, table: Table, given: tuple[str, str], columns: Sequence[str], blocks: Iterable[bytes]
) -> None:
    """See store.database.insert_lines. Numbers come as text; the affinity of their columns makes numbers of them.

    Many rows a statement, all but the last ones: for a trigger or a key the engine begins each statement with a mark to
    come back to.
    """
    name, value = given
    names = [name, *columns]
    row = f"({', '.join('?' for _ in names)})"
    statement = f"INSERT INTO {table.__tablename__} ({', '.join(names)}) VALUES {', '.join([row] * _ROWS)}"
    connection = session.connection()
    for block in blocks:
        lines = block.decode().removesuffix("\n").split("\n")
        whole = len(lines) - len(lines) % _ROWS
        for start in range(0, whole, _ROWS):
            cells = [cell for line in lines[start : start + _ROWS] for cell in (value, *line.split("\t"))]
            connection.exec_driver_sql(statement, tuple(cells))
        if whole < len(lines):
            insert_rows(session, table, names, [(value, *line.split("\t")) for line in lines[whole:]])


def copy_lines(
    session: Session, table: Table, given: tuple[str, str], columns: Sequence[str], blocks: Iterable[bytes]
) -> None:
    """See store.database.insert_lines. The lines go out as they are: they have the form that the server reads."""
    name, value = given
    begin = f"{value}\t".encode().replace(b"\\", b"\\\\")
    with _copying(session, table, [name, *columns]) as copy:
        for block in blocks:
            # But for what COPY reads as something else.
            text = block.removesuffix(b"\n").replace(b"\\", b"\\\\").replace(b"\r", b"\\r")
            copy.write(begin + text.replace(b"\n", b"\n" + begin) + b"\n")


def sent_in_turn(connection: Connection, statements: Sequence[Statement]) -> None:
    """To an engine within the process: one statement after the other."""
    for statement, given in statements:
        connection.exec_driver_sql(statement, given)


def sent_at_once(connection: Connection, statements: Sequence[Statement]) -> None:
    """To a server: all statements before the first answer is waited for."""
    with _driver(connection, "; ".join(text for text, _ in statements)) as driver, driver.cursor() as cursor:
        if len(statements) == 1:
            cursor.execute(*statements[0])
            return
        with driver.pipeline():
            for statement, given in statements:
                cursor.execute(statement, given)


@contextmanager
def _copying(session: Session, table: Table, names: Sequence[str]) -> Iterator[Any]:
    statement = f"COPY {table.__tablename__} ({', '.join(names)}) FROM STDIN"
    with (
        _driver(session.connection(), statement) as driver,
        driver.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        yield copy


@contextmanager
def _driver(connection: Connection, statement: str) -> Iterator[Any]:
    """Yield the driver's own connection; its errors come out as those of any statement."""
    driver: Any = connection.connection.driver_connection
    try:
        yield driver
    except driver.Error as error:
        base = type(driver).Error
        raise DBAPIError.instance(statement, None, error, base, dialect=connection.dialect) from error


def update_rows(
    session: Session, table: Table, names: Sequence[str], key: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    """One prepared statement for all rows."""
    changes, found = ", ".join(f"{name} = ?" for name in names), " AND ".join(f"{name} = ?" for name in key)
    statement = f"UPDATE {table.__tablename__} SET {changes} WHERE {found}"
    session.connection().exec_driver_sql(statement, rows)


def update_from_arrays(
    session: Session, table: Table, names: Sequence[str], key: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    """One statement for all rows, with an array a column."""
    connection = session.connection()
    columns, given = table.__table__.c, [*names, *key]
    # One statement for all rows: the server plans it once, and nobody waits for an answer to each.
    arrays = ", ".join(f"%s::{columns[name].type.compile(connection.dialect)}[]" for name in given)
    changes = ", ".join(f"{name} = given.{name}" for name in names)
    found = " AND ".join(f"{table.__tablename__}.{name} = given.{name}" for name in key)
    statement = (
        f"UPDATE {table.__tablename__} SET {changes} FROM unnest({arrays}) AS given({', '.join(given)}) WHERE {found}"
    )
    connection.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))
