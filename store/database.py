"""Open a database by URL and hand out transactions. The only place that knows which engine it is.

`write()` is one transaction that commits at the end of the block or rolls back; on SQLite it is BEGIN IMMEDIATE,
so "insert, catch the unique key" and row locks mean the same on both engines. `read()` never takes the write lock.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    MetaData,
    Table,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from store import bulk
from store.errors import AlreadyThere, AppendOnly, CalendarOverlap, OutOfOrder, StillReferenced, StoreError, TryAgain
from store.later import SEND, LedgerSession, Send, forget_what_is_undone, write_before_commit
from store.types import UtcDateTime

OVERLAP_MARK = "openlab_calendar_overlap"
APPEND_ONLY_MARK = "openlab_append_only"
OUT_OF_ORDER_MARK = "openlab_out_of_order"

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


_SQLITE_WAIT_S = 30
_PING_AFTER_S = 1.0
_READ_ONLY = {"openlab_read_only": True}
# Said to the driver, which opens the transaction with it: a statement of its own would be a round trip more.
_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_NO_TRANSACTION = {"isolation_level": "AUTOCOMMIT"}


class Base(DeclarativeBase):
    """All tables of the ledger database hang on this metadata."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {int: BigInteger, datetime: UtcDateTime}


@dataclass(frozen=True)
class Database:
    """An open database. `translate` says what a driver's error means in our words."""

    engine: Engine
    _sessions: sessionmaker[LedgerSession]
    _translate: Callable[[DBAPIError], StoreError | None]
    _one_writer: Callable[[], AbstractContextManager[object]]
    _reading: Mapping[str, object]
    _looking: Mapping[str, object]

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One read-write transaction: commits when the block ends, rolls back when it raises.

        Driver errors come out as errors of `store.errors` where they have a meaning there.
        """
        with self._translated(), self._one_writer(), self._sessions() as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One read-only transaction: sees one state of the database and waits for no writer."""
        with self._translated(), self._sessions() as session:
            session.connection(execution_options=self._reading)
            yield session

    @contextmanager
    def look(self) -> Iterator[Session]:
        """One statement that reads. Cheaper than `read()`; two statements may see two states of the database."""
        with self._translated(), self._sessions() as session:
            session.connection(execution_options=self._looking)
            yield session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            meaning = self._translate(error)
            if meaning is None:
                raise
            raise meaning from error

    def meaning_of(self, error: DBAPIError) -> StoreError | None:
        """Return what a driver's error means, for code that catches it inside a transaction (in a savepoint)."""
        return self._translate(error)

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Open the database that `url` names (`sqlite:////path/openlab.db` or `postgresql+psycopg://…`).

    Raises ValueError that lists the known schemes. Does not create or migrate tables (see store.migrations).
    """
    scheme = make_url(url).get_backend_name()
    if scheme not in _OPENERS:
        raise ValueError(f"no database backend is called {scheme!r}; known: {', '.join(sorted(_OPENERS))}")
    engine, translate, one_writer, reading, looking = _OPENERS[scheme](url)
    sessions = sessionmaker(engine, class_=LedgerSession, expire_on_commit=False, info={SEND: _SENDS[scheme]})
    event.listen(sessions, "before_commit", write_before_commit)
    event.listen(sessions, "after_soft_rollback", forget_what_is_undone)
    return Database(engine, sessions, translate, one_writer, reading, looking)


def insert_statement(session: Session, table: type[Base]) -> Any:
    """Return an INSERT that knows ON CONFLICT, in the words of the session's engine (see store.upsert)."""
    return _INSERTS[session.get_bind().dialect.name](table)


def engine_of(session: Session) -> str:
    """Return the name of a session's engine, as a key for statements that are put together once (`insert_into`)."""
    return session.get_bind().dialect.name


def insert_into(engine: str, table: type[Base]) -> Any:
    """Return an INSERT of the table's own columns that knows ON CONFLICT, in the words of that engine."""
    own = table.__table__
    assert isinstance(own, Table)
    return _INSERTS[engine](own)


def insert_many(session: Session, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all name the same columns, by the fastest way the engine has. Errors as of any statement."""
    if rows:
        names = list(rows[0])
        insert_tuples(session, table, names, list(_stored(session, table, names, rows)))


def update_many(session: Session, table: type[Base], key: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Set the columns of existing rows, found by `key`; all rows name the same columns. Errors as of any statement."""
    if rows:
        names = [name for name in rows[0] if name not in key]
        stored = _stored(session, table, [*names, *key], rows)
        _UPDATES_MANY[session.get_bind().dialect.name](session, table, names, key, list(stored))


def insert_tuples(session: Session, table: type[Base], columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of these columns, values as the database holds them (text, integers). Errors as of any statement."""
    if rows:
        _INSERTS_MANY[session.get_bind().dialect.name](session, table, columns, rows)


def insert_lines(
    session: Session, table: type[Base], given: tuple[str, str], columns: Sequence[str], blocks: Iterable[bytes]
) -> None:
    """Insert rows that are at hand as lines of UTF-8: the values of `columns` with a tab between them, none of them
    NULL or with a tab or line break in it. `given` is a column and its value in every row. Blocks are of whole lines.
    Errors as of any statement."""
    _INSERTS_LINES[session.get_bind().dialect.name](session, table, given, columns, blocks)


def read_tuples(session: Session, statement: Executable, at_once: int) -> Iterator[Sequence[Any]]:
    """Yield the rows of a statement, so many at a time, as tuples with what the database holds (text, integers): past
    the types and rows of the session, which for millions of rows cost as much as the query. Errors as of any statement.
    """
    session.flush()
    yield from _READS[session.get_bind().dialect.name](session.connection(), statement, at_once)


def refusal_of(session: Session, error: DBAPIError) -> StoreError | None:
    """Return what a driver's error means, for a service that put its insert into a savepoint of this session."""
    return _TRANSLATIONS[session.get_bind().dialect.name](error)


def by_code_point(session: Session, column: ColumnElement[str]) -> ColumnElement[str]:
    """Return a text column to order by so that every engine gives the same order: that of Python's `sorted`."""
    return column.collate(_CODE_POINT_COLLATIONS[session.get_bind().dialect.name])


def is_write_locked_per_database(connection: Connection) -> bool:
    """Whether one writer at a time is the engine's own rule (then migrations rebuild tables by copying)."""
    return connection.dialect.name == "sqlite"


_Opened = tuple[
    Engine,
    Callable[[DBAPIError], StoreError | None],
    Callable[[], AbstractContextManager[object]],
    Mapping[str, object],
    Mapping[str, object],
]


def _open_sqlite(url: str) -> _Opened:
    path = make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=20, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, record: Any) -> None:
        # The driver must not open transactions by itself: with its defaults a savepoint survives a rollback.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # A gateway's batch is hundreds of pages. With the defaults it does not fit the cache, so pages are written and
        # read again before the commit, and nearly every commit copies the log into the database with two more syncs.
        connection.execute("PRAGMA cache_size=-4000")
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        connection.execute(f"PRAGMA busy_timeout={_SQLITE_WAIT_S * 1000}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("openlab_read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    gate = threading.Lock()

    @contextmanager
    def one_writer() -> Iterator[None]:
        # The engine's own waiting is a poll with growing pauses: under a rush somebody waits for seconds. Writers of
        # one process queue here instead; a lock may be released by another thread than took it (a request's end).
        if not gate.acquire(timeout=_SQLITE_WAIT_S):
            raise TryAgain(f"other threads have been writing for {_SQLITE_WAIT_S} s")
        try:
            yield
        finally:
            gate.release()

    return engine, _translate_sqlite, one_writer, _READ_ONLY, _READ_ONLY


def _translate_sqlite(error: DBAPIError) -> StoreError | None:
    text = str(error.orig)
    if OVERLAP_MARK in text:
        return CalendarOverlap("the instrument is taken at that time")
    if APPEND_ONLY_MARK in text:
        return AppendOnly(text)
    if OUT_OF_ORDER_MARK in text:
        return OutOfOrder(text)
    if "UNIQUE constraint failed" in text:
        return AlreadyThere(text)
    if "FOREIGN KEY constraint failed" in text:
        return StillReferenced(text)
    if "database is locked" in text or "database table is locked" in text:
        return TryAgain(text)
    return None


def _open_postgresql(url: str) -> _Opened:
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=20,
        max_overflow=20,
        # The connection used last comes first: its server process has plans and pages at hand.
        pool_use_lifo=True,
        # What is streamed is read to its end: plans that give the first rows soon take ten times as long for all.
        connect_args={
            "options": "-c lock_timeout=10000 -c timezone=UTC -c cursor_tuple_fraction=1.0",
            "connect_timeout": 5,
        },
    )

    # Two rows of one kind are one statement: the driver's own way to send several is as many answers to wait for.
    engine.dialect.use_insertmanyvalues_wo_returning = True

    @event.listens_for(engine, "checkin")
    def _on_checkin(connection: Any, record: Any) -> None:
        record.info["returned"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _on_checkout(connection: Any, record: Any, proxy: Any) -> None:
        # One that rested may have lost its server meanwhile. Asking each time would be two round trips a request.
        returned = record.info.get("returned")
        if returned is not None and time.monotonic() - returned > _PING_AFTER_S and not _answers(engine, connection):
            raise InvalidatePoolError

    return engine, _translate_postgresql, nullcontext, _SNAPSHOT, _NO_TRANSACTION


def _answers(engine: Engine, connection: Any) -> bool:
    try:
        return engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error:
        return False


def _translate_postgresql(error: DBAPIError) -> StoreError | None:
    text, code = str(error.orig), getattr(error.orig, "sqlstate", None)
    if code == "23P01":
        return CalendarOverlap("the instrument is taken at that time")
    if APPEND_ONLY_MARK in text:
        return AppendOnly(text)
    if OUT_OF_ORDER_MARK in text:
        return OutOfOrder(text)
    if isinstance(error, IntegrityError) and code == "23505":
        return AlreadyThere(text)
    if code == "23503":
        return StillReferenced(text)
    if code in ("40001", "40P01", "55P03"):
        return TryAgain(text)
    return None


def _stored(
    session: Session, table: type[Base], names: Sequence[str], rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[Any, ...]]:
    columns = table.__table__.c
    dialect = session.get_bind().dialect
    converts = [(name, columns[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in names]
    for row in rows:
        yield tuple(row[name] if convert is None else convert(row[name]) for name, convert in converts)


_SENDS: dict[str, Send] = {"sqlite": bulk.sent_in_turn, "postgresql": bulk.sent_at_once}
_INSERTS_MANY = {"sqlite": bulk.insert_rows, "postgresql": bulk.copy_rows}
_READS = {"sqlite": bulk.fetched, "postgresql": bulk.streamed}
_INSERTS_LINES = {"sqlite": bulk.insert_lines, "postgresql": bulk.copy_lines}
_UPDATES_MANY = {"sqlite": bulk.update_rows, "postgresql": bulk.update_from_arrays}
_CODE_POINT_COLLATIONS = {"sqlite": "BINARY", "postgresql": "C"}
_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_TRANSLATIONS = {"sqlite": _translate_sqlite, "postgresql": _translate_postgresql}
_OPENERS = {"sqlite": _open_sqlite, "postgresql": _open_postgresql}
