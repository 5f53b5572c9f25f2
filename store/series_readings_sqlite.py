"""Readings (what meters show beside power and energy) in the SQLite time series. Used by `store.series_sqlite` only."""

import sqlite3
from collections.abc import Collection, Iterator

from store.series import Reading, ReadingsRefused, ThinnedReadings, check_span, checked_id, checked_quantity
from store.series_file import EXPIRE_SLICE_MS, SeriesFile, expired_before, instruments_in
from store.series_hours import slice_width
from store.series_readings import sort_out

_PAGE = 1_000
_UPSERT = """
    INSERT INTO reading (instrument_id, quantity, at_ms, value) VALUES (?, ?, ?, ?)
    ON CONFLICT (instrument_id, quantity, at_ms) DO UPDATE SET value = excluded.value
"""
# One index seek each, as for instruments.
_QUANTITIES = """
    WITH RECURSIVE known(name) AS (
        SELECT min(quantity) FROM reading WHERE instrument_id = ?1
        UNION ALL
        SELECT (SELECT min(quantity) FROM reading WHERE instrument_id = ?1 AND quantity > known.name)
        FROM known WHERE name IS NOT NULL
    ) SELECT name FROM known WHERE name IS NOT NULL
"""
_WITHIN = "instrument_id = ? AND quantity = ? AND at_ms >= ? AND at_ms < ?"


class SqliteReadings:
    """The readings in one file."""

    def __init__(self, file: SeriesFile) -> None:
        self._file = file

    def write(self, readings: Collection[Reading]) -> None:
        """See SeriesStore.write_readings."""
        with self._file.writing() as connection:
            good, refused = sort_out(readings, expired_before(connection))
            connection.executemany(_UPSERT, [(r.instrument_id, r.quantity, r.at_ms, float(r.value)) for r in good])
        if refused:
            raise ReadingsRefused(refused)

    def read(self, instrument_id: str, quantity: str, from_ms: int, to_ms: int) -> Iterator[Reading]:
        """See SeriesStore.readings."""
        check_span(from_ms, to_ms)
        return self._pages(checked_id(instrument_id), checked_quantity(quantity), from_ms, to_ms)

    def _pages(self, instrument_id: str, quantity: str, from_ms: int, to_ms: int) -> Iterator[Reading]:
        while True:
            with self._file.reading() as connection:
                rows = connection.execute(
                    f"SELECT at_ms, value FROM reading WHERE {_WITHIN} ORDER BY at_ms LIMIT {_PAGE}",
                    (instrument_id, quantity, from_ms, to_ms),
                ).fetchall()
            yield from (Reading(instrument_id, at_ms, quantity, value) for at_ms, value in rows)
            if len(rows) < _PAGE:
                return
            from_ms = rows[-1][0] + 1

    def thinned(
        self, instrument_id: str, quantity: str, from_ms: int, to_ms: int, buckets: int
    ) -> list[ThinnedReadings]:
        """See SeriesStore.thinned_readings."""
        check_span(from_ms, to_ms)
        width = slice_width(from_ms, to_ms, buckets)
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT (at_ms - ?) / ? AS slice, count(*), avg(value), min(value), max(value) FROM reading"
                f" WHERE {_WITHIN} GROUP BY slice ORDER BY slice",
                (from_ms, width, checked_id(instrument_id), checked_quantity(quantity), from_ms, to_ms),
            ).fetchall()
        return [ThinnedReadings(from_ms + number * width, *figures) for number, *figures in rows]

    def quantities(self, instrument_id: str, from_ms: int, to_ms: int) -> list[str]:
        """See SeriesStore.quantities."""
        check_span(from_ms, to_ms)
        checked_id(instrument_id)
        seen = f"SELECT 1 FROM reading WHERE {_WITHIN} LIMIT 1"
        with self._file.reading() as connection:
            return [
                name
                for name in _quantities(connection, instrument_id)
                if connection.execute(seen, (instrument_id, name, from_ms, to_ms)).fetchone()
            ]

    def delete_before(self, before_ms: int) -> None:
        """Delete readings older than `before_ms`, a day of one instrument a transaction."""
        with self._file.reading() as connection:
            instrument_ids = instruments_in(connection, "reading")
        for instrument_id in instrument_ids:
            while self._delete_slice(instrument_id, before_ms):
                pass

    def _delete_slice(self, instrument_id: str, before_ms: int) -> bool:
        with self._file.writing() as connection:
            first = "SELECT min(at_ms) FROM reading WHERE instrument_id = ? AND quantity = ?"
            oldest = {
                name: connection.execute(first, (instrument_id, name)).fetchone()[0]
                for name in _quantities(connection, instrument_id)
            }
            old = [name for name, at_ms in oldest.items() if at_ms < before_ms]
            if not old:
                return False
            until = min(before_ms, min(oldest.values()) + EXPIRE_SLICE_MS)
            connection.executemany(
                "DELETE FROM reading WHERE instrument_id = ? AND quantity = ? AND at_ms < ?",
                [(instrument_id, name, until) for name in old],
            )
        return True


def _quantities(connection: sqlite3.Connection, instrument_id: str) -> list[str]:
    return [row[0] for row in connection.execute(_QUANTITIES, (instrument_id,))]
