"""The time series in one SQLite file: no server, one writer at a time, any number of processes that read meanwhile.

Opened by `store.series.open_series` only. The roll-up of an hour is computed again from its raw samples in the same
transaction that writes them, so repeats, late points and crashes cannot make it drift.

Commits are synchronous=FULL: the gateway tells the agent "kept" after `write` returns, and the agent then forgets.
With NORMAL a power cut would take back what had been acknowledged, up to a whole checkpoint of it.
"""

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError

from store.migrations import History, upgrade
from store.series import (
    HOUR_MS,
    MAX_HOLD_MS,
    Coverage,
    HourlyUse,
    Refusal,
    Sample,
    SeriesRefused,
    SeriesUnavailable,
    Thinned,
    check_span,
    checked_id,
)
from store.series_hours import (
    checked_period,
    coverage_of,
    hour_of,
    hours_from_rows,
    rounded_mean,
    runs_of_hours,
    slice_width,
    sort_out,
    touched_hours,
)

_PAGE = 1_000
_EXPIRE_SLICE_MS = 24 * HOUR_MS
_EXPIRED = "expired_before"

_UPSERT = """
    INSERT INTO sample (instrument_id, at_ms, power_mw, state, energy_mwh) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (instrument_id, at_ms) DO UPDATE SET
        power_mw = excluded.power_mw, state = excluded.state, energy_mwh = coalesce(excluded.energy_mwh, energy_mwh)
"""
_HOUR_COLUMNS = (
    "instrument_id, hour_ms, samples, power_avg_mw, power_max_mw, off_ms, standby_ms, running_ms, unknown_ms"
)
_HOUR_VALUES = attrgetter(*_HOUR_COLUMNS.split(", "))
_PUT_HOUR = f"INSERT OR REPLACE INTO sample_hour ({_HOUR_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The key starts with the instrument, so "which instruments are there" is one index seek each instead of a scan.
_INSTRUMENTS = """
    WITH RECURSIVE known(id) AS (
        SELECT min(instrument_id) FROM sample
        UNION ALL
        SELECT (SELECT min(instrument_id) FROM sample WHERE instrument_id > known.id) FROM known WHERE id IS NOT NULL
    ) SELECT id FROM known WHERE id IS NOT NULL
"""
_LATEST = """
    SELECT instrument_id, at_ms, power_mw, state, energy_mwh FROM sample
    WHERE instrument_id = ? ORDER BY at_ms DESC LIMIT 1
"""


def open_sqlite(url: str, token: str | None = None) -> "SqliteSeries":
    """Open the file that a `sqlite:////path` URL names. Raises ValueError for a URL without a file."""
    example = "write it like sqlite:////var/lib/openlab/series.db?timeout_ms=5000"
    try:
        parsed = make_url(url)
        timeout_ms = int(str(parsed.query.get("timeout_ms", "5000")))
    except (ArgumentError, ValueError) as error:
        raise ValueError(f"{url!r} does not name a time-series file; {example}") from error
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError(f"the time series needs a file, since other processes read it; {example}")
    if token is not None:
        raise ValueError("a SQLite file takes no token")
    return SqliteSeries(Path(parsed.database), timeout_ms)


def prepare_sqlite(url: str) -> None:
    """Create or migrate the file of a `sqlite:////path` URL. Raises ValueError for a URL without a file."""
    store = open_sqlite(url)
    create_schema(store.path)
    store.close()


def create_schema(path: Path) -> None:
    """Create the file and bring its tables to the version this program needs. Harmless where that is so already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        upgrade(engine, History.SERIES)
    finally:
        engine.dispose()


class SqliteSeries:
    """The store in one file. Connections are pooled; each is used by one thread at a time."""

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def __init__(self, path: Path, timeout_ms: int = 5000) -> None:
        self._path = path
        self._timeout_ms = timeout_ms
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        # SQLite's own waiting is a poll; threads of one process queue here instead.
        self._writer = threading.Lock()

    def write(self, samples: Collection[Sample]) -> None:
        """See SeriesStore.write."""
        with self._writing() as connection:
            refused = _write(connection, samples)
        if refused:
            raise SeriesRefused(refused)

    def read(self, instrument_id: str, from_ms: int, to_ms: int, limit: int | None = None) -> Iterator[Sample]:
        """See SeriesStore.read."""
        check_span(from_ms, to_ms)
        return self._pages(checked_id(instrument_id), from_ms, to_ms, limit)

    def _pages(self, instrument_id: str, from_ms: int, to_ms: int, limit: int | None) -> Iterator[Sample]:
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            with self._reading() as connection:
                rows = connection.execute(
                    "SELECT instrument_id, at_ms, power_mw, state, energy_mwh FROM sample"
                    " WHERE instrument_id = ? AND at_ms >= ? AND at_ms < ? ORDER BY at_ms LIMIT ?",
                    (instrument_id, from_ms, to_ms, size),
                ).fetchall()
            yield from (Sample(*row) for row in rows)
            if len(rows) < size:
                return
            from_ms = rows[-1][1] + 1
            left = None if left is None else left - len(rows)

    def thinned(self, instrument_id: str, from_ms: int, to_ms: int, buckets: int) -> list[Thinned]:
        """See SeriesStore.thinned."""
        check_span(from_ms, to_ms)
        width = slice_width(from_ms, to_ms, buckets)
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT (at_ms - ?1) / ?2 AS slice, count(*), sum(power_mw), max(power_mw) FROM sample"
                " WHERE instrument_id = ?3 AND at_ms >= ?1 AND at_ms < ?4 GROUP BY slice ORDER BY slice",
                (from_ms, width, checked_id(instrument_id), to_ms),
            ).fetchall()
        return [Thinned(from_ms + number * width, n, rounded_mean(total, n), top) for number, n, total, top in rows]

    def hourly(self, instrument_ids: Collection[str] | None, from_ms: int, to_ms: int) -> list[HourlyUse]:
        """See SeriesStore.hourly."""
        check_span(from_ms, to_ms)
        chosen = "" if instrument_ids is None else " AND instrument_id IN (SELECT value FROM json_each(?))"
        given = () if instrument_ids is None else (json.dumps([checked_id(one) for one in instrument_ids]),)
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {_HOUR_COLUMNS} FROM sample_hour WHERE hour_ms >= ? AND hour_ms < ?{chosen}"
                " ORDER BY instrument_id, hour_ms",
                (from_ms, to_ms, *given),
            ).fetchall()
        return [HourlyUse(*row) for row in rows]

    def latest(self, instrument_ids: Collection[str] | None = None) -> dict[str, Sample]:
        """See SeriesStore.latest."""
        if instrument_ids is not None:
            instrument_ids = sorted({checked_id(one) for one in instrument_ids})
        with self._reading() as connection:
            if instrument_ids is None:
                instrument_ids = [row[0] for row in connection.execute(_INSTRUMENTS)]
            rows = (connection.execute(_LATEST, (one,)).fetchone() for one in instrument_ids)
            return {row[0]: Sample(*row) for row in rows if row is not None}

    def coverage(self, instrument_id: str, from_ms: int, to_ms: int, period_ms: int) -> Coverage:
        """See SeriesStore.coverage."""
        check_span(from_ms, to_ms)
        with self._reading() as connection:
            (present,) = connection.execute(
                "SELECT count(DISTINCT (at_ms - ?1) / ?2) FROM sample"
                " WHERE instrument_id = ?3 AND at_ms >= ?1 AND at_ms < ?4",
                (from_ms, checked_period(period_ms), checked_id(instrument_id), to_ms),
            ).fetchone()
        return coverage_of(from_ms, to_ms, period_ms, present)

    def expire(self, before_ms: int) -> int:
        """See SeriesStore.expire. Deletes a day of one instrument a transaction, so that writers get their turn.

        The file does not shrink; its free pages are used again.
        """
        with self._writing() as connection:
            hour = max(hour_of(before_ms), _expired_before(connection))
            connection.execute(
                "INSERT INTO series_mark (name, value_ms) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value_ms = excluded.value_ms",
                (_EXPIRED, hour),
            )
        with self._reading() as connection:
            instrument_ids = [row[0] for row in connection.execute(_INSTRUMENTS)]
        for instrument_id in instrument_ids:
            while self._delete_slice(instrument_id, hour - MAX_HOLD_MS):
                pass
        return hour

    def _delete_slice(self, instrument_id: str, before_ms: int) -> bool:
        with self._writing() as connection:
            (oldest,) = connection.execute(
                "SELECT min(at_ms) FROM sample WHERE instrument_id = ?", (instrument_id,)
            ).fetchone()
            if oldest is None or oldest >= before_ms:
                return False
            connection.execute(
                "DELETE FROM sample WHERE instrument_id = ? AND at_ms < ?",
                (instrument_id, min(before_ms, oldest + _EXPIRE_SLICE_MS)),
            )
        return True

    def ping(self) -> None:
        """See SeriesStore.ping."""
        with self._reading() as connection:
            _expired_before(connection)
            connection.execute("SELECT 1 FROM sample, sample_hour LIMIT 1")

    def close(self) -> None:
        """See SeriesStore.close."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self._writer.acquire(timeout=self._timeout_ms / 1000):
            raise SeriesUnavailable(f"{self._path}: another thread has been writing for {self._timeout_ms} ms")
        try:
            with self._connection("BEGIN IMMEDIATE") as connection:
                yield connection
        finally:
            self._writer.release()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._connection("BEGIN") as connection:
            yield connection

    @contextmanager
    def _connection(self, begin: str) -> Iterator[sqlite3.Connection]:
        """One transaction on a connection of its own. What SQLite reports comes out as SeriesUnavailable."""
        connection = None
        try:
            connection = self._borrow()
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise SeriesUnavailable(f"{self._path}: {error}") from error
        finally:
            if connection is not None:
                self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise SeriesUnavailable(f"{self._path}: this store has been closed")
            if self._idle:
                return self._idle.pop()
        # mode=rw: a missing file is "not set up", not a reason to make an empty one.
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
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


def _write(connection: sqlite3.Connection, samples: Collection[Sample]) -> list[Refusal]:
    good, refused = sort_out(samples, _expired_before(connection))
    connection.executemany(_UPSERT, [(s.instrument_id, s.at_ms, s.power_mw, s.state, s.energy_mwh) for s in good])
    for instrument_id, hours in touched_hours(good).items():
        for from_ms, to_ms in runs_of_hours(hours):
            rows = connection.execute(
                "SELECT at_ms, power_mw, state FROM sample"
                " WHERE instrument_id = ? AND at_ms >= ? AND at_ms < ? ORDER BY at_ms",
                (instrument_id, from_ms - MAX_HOLD_MS, to_ms),
            ).fetchall()
            uses = hours_from_rows(instrument_id, range(from_ms, to_ms, HOUR_MS), rows)
            connection.executemany(_PUT_HOUR, [_HOUR_VALUES(use) for use in uses])
    return refused


def _expired_before(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value_ms FROM series_mark WHERE name = ?", (_EXPIRED,)).fetchone()
    return 0 if row is None else int(row[0])
