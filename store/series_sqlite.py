"""The time series in one SQLite file: no server, one writer at a time, any number of processes that read meanwhile.

Opened by `store.series.open_series` only. The roll-up of an hour is computed again from its raw samples in the same
transaction that writes them, so repeats, late points and crashes cannot make it drift. `store.series_file` has the
connections, `store.series_readings_sqlite` what meters show beside power.
"""

import json
import sqlite3
from collections.abc import Collection, Iterator
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
    Reading,
    Refusal,
    Sample,
    SeriesRefused,
    Thinned,
    ThinnedReadings,
    check_span,
    checked_id,
)
from store.series_file import EXPIRE_SLICE_MS, EXPIRED, SeriesFile, expired_before, instruments_in
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
from store.series_readings_sqlite import SqliteReadings

_PAGE = 1_000

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
    return SqliteSeries(SeriesFile(Path(parsed.database), timeout_ms))


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
    """The store in one file. Each call is one transaction or several short ones."""

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def __init__(self, file: SeriesFile) -> None:
        self._file = file
        self._readings = SqliteReadings(file)

    def write(self, samples: Collection[Sample]) -> None:
        """See SeriesStore.write."""
        with self._file.writing() as connection:
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
            with self._file.reading() as connection:
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
        with self._file.reading() as connection:
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
        with self._file.reading() as connection:
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
        with self._file.reading() as connection:
            if instrument_ids is None:
                instrument_ids = instruments_in(connection, "sample")
            rows = (connection.execute(_LATEST, (one,)).fetchone() for one in instrument_ids)
            return {row[0]: Sample(*row) for row in rows if row is not None}

    def coverage(self, instrument_id: str, from_ms: int, to_ms: int, period_ms: int) -> Coverage:
        """See SeriesStore.coverage."""
        check_span(from_ms, to_ms)
        with self._file.reading() as connection:
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
        with self._file.writing() as connection:
            hour = max(hour_of(before_ms), expired_before(connection))
            connection.execute(
                "INSERT INTO series_mark (name, value_ms) VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value_ms = excluded.value_ms",
                (EXPIRED, hour),
            )
        with self._file.reading() as connection:
            instrument_ids = instruments_in(connection, "sample")
        for instrument_id in instrument_ids:
            while self._delete_slice(instrument_id, hour - MAX_HOLD_MS):
                pass
        self._readings.delete_before(hour)
        return hour

    def _delete_slice(self, instrument_id: str, before_ms: int) -> bool:
        with self._file.writing() as connection:
            (oldest,) = connection.execute(
                "SELECT min(at_ms) FROM sample WHERE instrument_id = ?", (instrument_id,)
            ).fetchone()
            if oldest is None or oldest >= before_ms:
                return False
            connection.execute(
                "DELETE FROM sample WHERE instrument_id = ? AND at_ms < ?",
                (instrument_id, min(before_ms, oldest + EXPIRE_SLICE_MS)),
            )
        return True

    def write_readings(self, readings: Collection[Reading]) -> None:
        """See SeriesStore.write_readings."""
        self._readings.write(readings)

    def readings(self, instrument_id: str, quantity: str, from_ms: int, to_ms: int) -> Iterator[Reading]:
        """See SeriesStore.readings."""
        return self._readings.read(instrument_id, quantity, from_ms, to_ms)

    def thinned_readings(
        self, instrument_id: str, quantity: str, from_ms: int, to_ms: int, buckets: int
    ) -> list[ThinnedReadings]:
        """See SeriesStore.thinned_readings."""
        return self._readings.thinned(instrument_id, quantity, from_ms, to_ms, buckets)

    def quantities(self, instrument_id: str, from_ms: int, to_ms: int) -> list[str]:
        """See SeriesStore.quantities."""
        return self._readings.quantities(instrument_id, from_ms, to_ms)

    def ping(self) -> None:
        """See SeriesStore.ping."""
        with self._file.reading() as connection:
            expired_before(connection)
            for table in ("sample", "sample_hour", "reading"):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1")

    def close(self) -> None:
        """See SeriesStore.close."""
        self._file.close()


def _write(connection: sqlite3.Connection, samples: Collection[Sample]) -> list[Refusal]:
    good, refused = sort_out(samples, expired_before(connection))
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
