"""The time series in InfluxDB 2.7: line protocol in, InfluxQL out. Opened by `open_series`.

Measurement `power` (tag `instrument`; integer fields power_mw, state, energy_mwh) holds the samples, `power_hour` the
roll-up, `series_mark` the instant before which samples have expired, `reading` what meters show beside power
(`store.series_readings_influx`). Of samples only the instrument is a tag: a tag is part of a point's identity. The
bucket needs unlimited retention; `expire` decides what goes, or roll-ups would go too.
A roll-up is computed from the raw samples after they are written; a crash in between is healed by the caller, who
repeats what was not acknowledged. Two gateways that write the same instrument at the same moment may leave an hour
one sample behind until its next sample arrives.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import structlog

from store.influx_url import parse_url
from store.series import (
    END_MS,
    HOUR_MS,
    MAX_HOLD_MS,
    STATE_NAMES,
    Coverage,
    HourlyUse,
    Reading,
    Sample,
    SeriesRefused,
    SeriesUnavailable,
    Thinned,
    ThinnedReadings,
    check_span,
    checked_id,
)
from store.series_bucket import InfluxBucket, conditions, span
from store.series_hours import (
    Row,
    checked_period,
    coverage_of,
    hour_of,
    hours_from_rows,
    not_stored,
    reason_to_refuse,
    rounded_mean,
    runs_of_hours,
    slice_width,
    sort_out,
    touched_hours,
)
from store.series_readings_influx import InfluxReadings

_PAGE = 5_000
_HOUR_FIELDS = ("samples", "power_avg_mw", "power_max_mw", "off_ms", "standby_ms", "running_ms", "unknown_ms")

_log = structlog.get_logger(__name__)


def open_influx(url: str, token: str | None = None) -> "InfluxSeries":
    """Open the bucket that the URL names. Raises ValueError for a URL that cannot be meant; contacts nobody."""
    return InfluxSeries(InfluxBucket(parse_url(url, token)))


class InfluxSeries:
    """The store in one bucket."""

    def __init__(self, bucket: InfluxBucket) -> None:
        self._bucket = bucket
        self._readings = InfluxReadings(bucket)

    def write(self, samples: Collection[Sample]) -> None:
        """See SeriesStore.write."""
        good, refused = sort_out(samples, self._bucket.expired_before())
        complaint = self._bucket.write_lines([_line(sample) for sample in good])
        if complaint is not None:
            self._write_hour_by_hour(good)
        hours = touched_hours(good)
        stored = self._rows(hours)
        if complaint is not None:
            refused += not_stored(good, {one: {row[0]: row for row in rows} for one, rows in stored.items()}, complaint)
        uses = chain.from_iterable(hours_from_rows(one, hours[one], rows) for one, rows in stored.items())
        complaint = self._bucket.write_lines([_hour_line(use) for use in uses])
        if complaint is not None:
            raise SeriesUnavailable(f"{self._bucket.url} refuses the hourly roll-up: {complaint}")
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
            found = self._bucket.select(
                f"SELECT power_mw, state, energy_mwh FROM power WHERE instrument = '{instrument_id}'"
                f" AND {span(from_ms, to_ms)} ORDER BY time LIMIT {size}"
            )
            rows = [row for one in found for row in one.rows]
            samples = list(_samples(instrument_id, rows))
            yield from samples
            if len(rows) < size:
                return
            from_ms = rows[-1][0] + 1
            left = None if left is None else left - len(samples)

    def thinned(self, instrument_id: str, from_ms: int, to_ms: int, buckets: int) -> list[Thinned]:
        """See SeriesStore.thinned."""
        check_span(from_ms, to_ms)
        width = slice_width(from_ms, to_ms, buckets)
        slices = self._slices("count(power_mw), sum(power_mw), max(power_mw)", instrument_id, from_ms, to_ms, width)
        return [Thinned(start, count, rounded_mean(total, count), top) for start, count, total, top in slices]

    def hourly(self, instrument_ids: Collection[str] | None, from_ms: int, to_ms: int) -> list[HourlyUse]:
        """See SeriesStore.hourly."""
        check_span(from_ms, to_ms)
        uses: list[HourlyUse] = []
        for condition in conditions(instrument_ids):
            found = self._bucket.select(
                f"SELECT {', '.join(_HOUR_FIELDS)} FROM power_hour"
                f" WHERE {span(from_ms, to_ms)}{condition} GROUP BY instrument"
            )
            uses += [HourlyUse(one.instrument, *row) for one in found for row in one.rows]
        return sorted(uses, key=lambda use: (use.instrument_id, use.hour_ms))

    def latest(self, instrument_ids: Collection[str] | None = None) -> dict[str, Sample]:
        """See SeriesStore.latest."""
        newest: dict[str, Sample] = {}
        for condition in conditions(instrument_ids):
            found = self._bucket.select(
                f"SELECT power_mw, state, energy_mwh FROM power WHERE {span(0, END_MS)}{condition}"
                " GROUP BY instrument ORDER BY time DESC LIMIT 1"
            )
            for one in found:
                newest.update((one.instrument, sample) for sample in _samples(one.instrument, one.rows))
        return {instrument_id: newest[instrument_id] for instrument_id in sorted(newest)}

    def coverage(self, instrument_id: str, from_ms: int, to_ms: int, period_ms: int) -> Coverage:
        """See SeriesStore.coverage."""
        check_span(from_ms, to_ms)
        slices = self._slices("count(power_mw)", instrument_id, from_ms, to_ms, checked_period(period_ms))
        return coverage_of(from_ms, to_ms, period_ms, len(slices))

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

    def expire(self, before_ms: int) -> int:
        """See SeriesStore.expire. The mark comes first: from then on nobody writes into what is being deleted."""
        hour = max(hour_of(before_ms), self._bucket.expired_before())
        complaint = self._bucket.write_lines([f"series_mark expired_before_ms={hour}i 0"])
        if complaint is not None:
            raise SeriesUnavailable(f"{self._bucket.url} refuses the mark of expiry: {complaint}")
        self._bucket.query(f"DELETE FROM power WHERE time < {hour - MAX_HOLD_MS}ms")
        self._readings.delete_before(hour)
        return hour

    def ping(self) -> None:
        """See SeriesStore.ping."""
        self._bucket.expired_before()

    def close(self) -> None:
        """See SeriesStore.close."""
        self._bucket.close()

    def _rows(self, hours: dict[str, list[int]]) -> dict[str, list[Row]]:
        """Return the raw rows that these hours' figures are made of. Instruments with the same hours share a query."""
        together: dict[tuple[int, int], list[str]] = {}
        for instrument_id, of_instrument in hours.items():
            for run in runs_of_hours(of_instrument):
                for day in range(run[0], run[1], 24 * HOUR_MS):
                    together.setdefault((day, min(run[1], day + 24 * HOUR_MS)), []).append(instrument_id)
        rows: dict[str, dict[int, Row]] = {instrument_id: {} for instrument_id in hours}
        for (from_ms, to_ms), instrument_ids in together.items():
            for condition in conditions(instrument_ids):
                found = self._bucket.select(
                    "SELECT power_mw, state FROM power"
                    f" WHERE {span(from_ms - MAX_HOLD_MS, to_ms)}{condition} GROUP BY instrument"
                )
                for one in found:
                    rows[one.instrument].update((row[0], tuple(row)) for row in one.rows if _is_ours(row))
        return {instrument_id: [found[at] for at in sorted(found)] for instrument_id, found in rows.items()}

    def _slices(self, what: str, instrument_id: str, from_ms: int, to_ms: int, width: int) -> list[list[Any]]:
        """Aggregate over slices of `width` that begin at `from_ms`; slices without a sample are left out."""
        if from_ms >= to_ms:
            return []
        found = self._bucket.select(
            f"SELECT {what} FROM power WHERE instrument = '{checked_id(instrument_id)}' AND {span(from_ms, to_ms)}"
            f" GROUP BY time({width}ms, {from_ms % width}ms) fill(none)"
        )
        return [row for one in found for row in one.rows]

    def _write_hour_by_hour(self, samples: Iterable[Sample]) -> None:
        """Write samples again that came with a refused one, so that what is read back afterwards is the whole answer.

        The server answers as soon as one shard refuses: the others may still be writing, and what they say is lost.
        An hour never spans two shards (a shard group lasts a multiple of an hour), so each answer is of its own points.
        """
        by_hour: dict[int, list[str]] = {}
        for sample in samples:
            by_hour.setdefault(hour_of(sample.at_ms), []).append(_line(sample))
        for lines in by_hour.values():
            self._bucket.write_lines(lines)


def _line(sample: Sample) -> str:
    energy = "" if sample.energy_mwh is None else f",energy_mwh={sample.energy_mwh}i"
    fields = f"power_mw={sample.power_mw}i,state={sample.state}i{energy}"
    return f"power,instrument={sample.instrument_id} {fields} {sample.at_ms}"


def _hour_line(use: HourlyUse) -> str:
    fields = ",".join(f"{name}={getattr(use, name)}i" for name in _HOUR_FIELDS)
    return f"power_hour,instrument={use.instrument_id} {fields} {use.hour_ms}"


def _samples(instrument_id: str, rows: Iterable[Sequence[Any]]) -> Iterator[Sample]:
    """Yield our samples. A point that we would not have written (another program's) is none of them, and is logged."""
    for row in rows:
        sample = Sample(instrument_id, *row)
        reason = reason_to_refuse(sample, 0)
        if reason is None:
            yield sample
        else:
            _log.warning("series_foreign_point", sample=repr(sample), reason=reason)


def _is_ours(row: Sequence[Any]) -> bool:
    """Whether (time, power, state) may be rolled up; the short form of `_samples` for the many rows of an hour."""
    return type(row[1]) is int and type(row[2]) is int and row[2] in STATE_NAMES
