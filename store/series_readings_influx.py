"""Readings (what meters show beside power and energy) in InfluxDB. Used by `store.series_influx` only.

Measurement `reading`, tags `instrument` and `quantity`, one float field `value`: a panel groups by either tag, a choice
of quantities is a list of tag values, and no name that a meter brings can clash with a field of another type.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import structlog

from store.series import (
    HOUR_MS,
    Reading,
    ReadingsRefused,
    RefusedReading,
    ThinnedReadings,
    check_span,
    checked_id,
    checked_quantity,
)
from store.series_bucket import InfluxBucket, conditions, span
from store.series_hours import hour_of, slice_width
from store.series_readings import reason_to_refuse, sort_out

_PAGE = 5_000

_log = structlog.get_logger(__name__)


class InfluxReadings:
    """The readings in one bucket."""

    def __init__(self, bucket: InfluxBucket) -> None:
        self._bucket = bucket

    def write(self, readings: Collection[Reading]) -> None:
        """See SeriesStore.write_readings."""
        good, refused = sort_out(readings, self._bucket.expired_before())
        if self._bucket.write_lines([_line(reading) for reading in good]) is not None:
            refused += self._write_hour_by_hour(good)
        if refused:
            raise ReadingsRefused(refused)

    def read(self, instrument_id: str, quantity: str, from_ms: int, to_ms: int) -> Iterator[Reading]:
        """See SeriesStore.readings."""
        check_span(from_ms, to_ms)
        return self._pages(_of(instrument_id, quantity), instrument_id, quantity, from_ms, to_ms)

    def _pages(self, chosen: str, instrument_id: str, quantity: str, from_ms: int, to_ms: int) -> Iterator[Reading]:
        while True:
            found = self._bucket.select(
                f"SELECT value FROM reading WHERE {chosen} AND {span(from_ms, to_ms)} ORDER BY time LIMIT {_PAGE}"
            )
            rows = [row for one in found for row in one.rows]
            yield from _readings(instrument_id, quantity, rows)
            if len(rows) < _PAGE:
                return
            from_ms = rows[-1][0] + 1

    def thinned(
        self, instrument_id: str, quantity: str, from_ms: int, to_ms: int, buckets: int
    ) -> list[ThinnedReadings]:
        """See SeriesStore.thinned_readings."""
        check_span(from_ms, to_ms)
        width = slice_width(from_ms, to_ms, buckets)
        chosen = _of(instrument_id, quantity)
        if from_ms >= to_ms:
            return []
        found = self._bucket.select(
            f"SELECT count(value), mean(value), min(value), max(value) FROM reading WHERE {chosen}"
            f" AND {span(from_ms, to_ms)} GROUP BY time({width}ms, {from_ms % width}ms) fill(none)"
        )
        return [
            ThinnedReadings(start, count, float(mean), float(lowest), float(highest))
            for one in found
            for start, count, mean, lowest, highest in one.rows
        ]

    def quantities(self, instrument_id: str, from_ms: int, to_ms: int) -> list[str]:
        """See SeriesStore.quantities. One point of each is looked at."""
        check_span(from_ms, to_ms)
        found = self._bucket.select(
            f"SELECT value FROM reading WHERE instrument = '{checked_id(instrument_id)}' AND {span(from_ms, to_ms)}"
            " GROUP BY quantity LIMIT 1"
        )
        return sorted(one.quantity for one in found)

    def delete_before(self, before_ms: int) -> None:
        """Delete readings older than `before_ms`."""
        self._bucket.query(f"DELETE FROM reading WHERE time < {before_ms}ms")

    def _write_hour_by_hour(self, readings: Iterable[Reading]) -> list[RefusedReading]:
        """Write readings again that came with a refused one; return those that are not there afterwards. By the hour,
        because of several shards only the first that refuses is heard (see `store.series_influx`)."""
        by_hour: dict[int, list[Reading]] = {}
        for reading in readings:
            by_hour.setdefault(hour_of(reading.at_ms), []).append(reading)
        refused = []
        for hour, of_hour in by_hour.items():
            complaint = self._bucket.write_lines([_line(reading) for reading in of_hour])
            if complaint is not None:
                stored = self._stored(hour, {reading.instrument_id for reading in of_hour})
                refused += [RefusedReading(reading, complaint) for reading in of_hour if reading not in stored]
        return refused

    def _stored(self, hour_ms: int, instrument_ids: Collection[str]) -> set[Reading]:
        stored: set[Reading] = set()
        for condition in conditions(instrument_ids):
            found = self._bucket.select(
                f"SELECT value FROM reading WHERE {span(hour_ms, hour_ms + HOUR_MS)}{condition}"
                " GROUP BY instrument, quantity"
            )
            for one in found:
                stored.update(_readings(one.instrument, one.quantity, one.rows))
        return stored


def _line(reading: Reading) -> str:
    tags = f"instrument={reading.instrument_id},quantity={reading.quantity}"
    return f"reading,{tags} value={float(reading.value)!r} {reading.at_ms}"


def _of(instrument_id: str, quantity: str) -> str:
    return f"instrument = '{checked_id(instrument_id)}' AND quantity = '{checked_quantity(quantity)}'"


def _readings(instrument_id: str, quantity: str, rows: Iterable[Sequence[Any]]) -> Iterator[Reading]:
    """Yield our readings. A point that we would not have written (another program's) is none, and is logged."""
    for at_ms, value in rows:
        reading = Reading(instrument_id, at_ms, quantity, float(value) if type(value) is int else value)
        reason = reason_to_refuse(reading, 0)
        if reason is None:
            yield reading
        else:
            _log.warning("series_foreign_point", reading=repr(reading), reason=reason)
