"""Many rows at a time, by the fastest way that each engine has. Called by store.database, which knows the engine.

Values are as the database holds them (text, integers). Errors are the driver's, as of any statement.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session

Table = type[DeclarativeBase]


def fetched(connection: Connection, statement: Executable, at_once: int) -> Iterator[Sequence[Any]]:
    """From a driver that reads on as rows are asked for, in its own tuples."""
    result = connection.execute(statement)
    try:
        while rows := result.cursor.fetchmany(at_once):
            yield rows
    finally:
        result.close()


def streamed(connection: Connection, statement: Executable, at_once: int) -> Iterator[Sequence[Any]]:
    """From a driver that would read all rows at first, with a cursor on the server."""
    yield from connection.execute(statement, execution_options={"yield_per": at_once}).partitions()


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
    """See store.database.insert_lines. Numbers come as text; the affinity of their columns makes numbers of them."""
    name, value = given
    for block in blocks:
        lines = block.decode().removesuffix("\n").split("\n")
        insert_rows(session, table, [name, *columns], [(value, *line.split("\t")) for line in lines])


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


@contextmanager
def _copying(session: Session, table: Table, names: Sequence[str]) -> Iterator[Any]:
    statement = f"COPY {table.__tablename__} ({', '.join(names)}) FROM STDIN"
    connection = session.connection()
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            yield copy
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
