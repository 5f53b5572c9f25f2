"""The file of the SQLite time series: its connections, its transactions, and what it says of itself.

Used by `store.series_sqlite` and `store.series_readings_sqlite` only. Any number of threads and processes read while
one writes.

Commits are synchronous=FULL: the gateway tells the agent "kept" after a write returns, and the agent then forgets.
With NORMAL a power cut would take back what had been acknowledged, up to a whole checkpoint of it.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.series import HOUR_MS, SeriesUnavailable

EXPIRED = "expired_before"
"""The mark before which samples and readings are gone."""

EXPIRE_SLICE_MS = 24 * HOUR_MS
"""What is deleted in one transaction, of one instrument, so that writers get their turn."""


class SeriesFile:
    """One file. Connections are pooled; each is used by one thread at a time.

    What SQLite reports comes out of a transaction as SeriesUnavailable, and takes it back.
    """

    def __init__(self, path: Path, timeout_ms: int = 5000) -> None:
        self.path = path
        self._timeout_ms = timeout_ms
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        # SQLite's own waiting is a poll; threads of one process queue here instead.
        self._writer = threading.Lock()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock from its start; committed when the block ends well."""
        if not self._writer.acquire(timeout=self._timeout_ms / 1000):
            raise SeriesUnavailable(f"{self.path}: another thread has been writing for {self._timeout_ms} ms")
        try:
            with self._connection("BEGIN IMMEDIATE") as connection:
                yield connection
        finally:
            self._writer.release()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One transaction that sees one state of the file and waits for no writer."""
        with self._connection("BEGIN") as connection:
            yield connection

    def close(self) -> None:
        """Close the connections nobody uses; those in use follow when they come back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _connection(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            connection = self._borrow()
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise SeriesUnavailable(f"{self.path}: {error}") from error
        finally:
            if connection is not None:
                self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise SeriesUnavailable(f"{self.path}: this store has been closed")
            if self._idle:
                return self._idle.pop()
        # mode=rw: a missing file is "not set up", not a reason to make an empty one.
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA busy_timeout={self._timeout_ms:d}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        failed = connection.in_transaction
        with self._guard:
            if not failed and not self._closed:
                self._idle.append(connection)
                return
        connection.close()  # which rolls back


def expired_before(connection: sqlite3.Connection) -> int:
    """Return the instant before which samples and readings have expired, 0 where nothing ever did."""
    row = connection.execute("SELECT value_ms FROM series_mark WHERE name = ?", (EXPIRED,)).fetchone()
    return 0 if row is None else int(row[0])


def instruments_in(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the instruments that a table knows, sorted. Its key starts with them: one index seek each and no scan."""
    found = connection.execute(
        f"""
        WITH RECURSIVE known(id) AS (
            SELECT min(instrument_id) FROM {table}
            UNION ALL
            SELECT (SELECT min(instrument_id) FROM {table} WHERE instrument_id > known.id)
            FROM known WHERE id IS NOT NULL
        ) SELECT id FROM known WHERE id IS NOT NULL
        """
    )
    return [row[0] for row in found]
