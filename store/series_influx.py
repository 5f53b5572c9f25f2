"""The time series in InfluxDB 2.7, through influxdb-client: line protocol in, InfluxQL out. Opened by `open_series`.

Writes are synchronous: the client's batching writer drops points silently when the server is away for long, and the
gateway must know what is kept before it says so. Reads are InfluxQL, the one language that InfluxDB 1.x, 2.7, 3 and
Grafana share (1.6 needs `/api/v2/write` rewritten to `/write`).

Measurement `power` (tag `instrument`; integer fields power_mw, state, energy_mwh) holds the samples, `power_hour` the
roll-up, `series_mark` the instant before which samples have expired. Only the instrument is a tag: a tag is part of a
point's identity. The bucket needs unlimited retention; `expire` decides what goes, or roll-ups would go too.
A roll-up is computed from the raw samples after they are written; a crash in between is healed by the caller, who
repeats what was not acknowledged. Two gateways that write the same instrument at the same moment may leave an hour
one sample behind until its next sample arrives.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import structlog
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from store.influx_url import InfluxAddress, parse_url
from store.series import (
    END_MS,
    HOUR_MS,
    MAX_HOLD_MS,
    STATE_NAMES,
    Coverage,
    HourlyUse,
    Sample,
    SeriesRefused,
    SeriesUnavailable,
    Thinned,
    check_span,
    checked_id,
    reason_to_refuse,
)
from store.series_hours import (
    Row,
    checked_period,
    coverage_of,
    hour_of,
    hours_from_rows,
    not_stored,
    rounded_mean,
    runs_of_hours,
    slice_width,
    sort_out,
    touched_hours,
)

_LINES = 5_000  # points a request; the best of the sizes measured
_PAGE = 5_000
_IDS = 200  # instruments named in one condition
_HOUR_FIELDS = ("samples", "power_avg_mw", "power_max_mw", "off_ms", "standby_ms", "running_ms", "unknown_ms")
_POINTS_REFUSED = (400, 422)  # 1.x and 2.x say "some points were rejected, the others are stored" with these

_log = structlog.get_logger(__name__)


def open_influx(url: str, token: str | None = None) -> "InfluxSeries":
    """Open the bucket that the URL names. Raises ValueError for a URL that cannot be meant; contacts nobody."""
    return InfluxSeries(parse_url(url, token))


class InfluxSeries:
    """The store in one bucket. Connections are the client's pool, which threads share."""

    def __init__(self, address: InfluxAddress) -> None:
        self._at = address
        self._client = InfluxDBClient(
            address.url, address.token, org=address.org, timeout=address.timeout_ms, retries=False
        )
        self._write_api = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, samples: Collection[Sample]) -> None:
        """See SeriesStore.write."""
        good, refused = sort_out(samples, self._expired_before())
        complaint = self._write_lines([_line(sample) for sample in good])
        if complaint is not None:
            self._write_hour_by_hour(good)
        hours = touched_hours(good)
        stored = self._rows(hours)
        if complaint is not None:
            refused += not_stored(good, {one: {row[0]: row for row in rows} for one, rows in stored.items()}, complaint)
        uses = chain.from_iterable(hours_from_rows(one, hours[one], rows) for one, rows in stored.items())
        complaint = self._write_lines([_hour_line(use) for use in uses])
        if complaint is not None:
            raise SeriesUnavailable(f"{self._at.url} refuses the hourly roll-up: {complaint}")
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
            found = self._select(
                f"SELECT power_mw, state, energy_mwh FROM power WHERE instrument = '{instrument_id}'"
                f" AND {_span(from_ms, to_ms)} ORDER BY time LIMIT {size}"
            )
            rows = [row for _, _, values in found for row in values]
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
        for condition in _conditions(instrument_ids):
            found = self._select(
                f"SELECT {', '.join(_HOUR_FIELDS)} FROM power_hour"
                f" WHERE {_span(from_ms, to_ms)}{condition} GROUP BY instrument"
            )
            uses += [HourlyUse(instrument_id, *row) for _, instrument_id, rows in found for row in rows]
        return sorted(uses, key=lambda use: (use.instrument_id, use.hour_ms))

    def latest(self, instrument_ids: Collection[str] | None = None) -> dict[str, Sample]:
        """See SeriesStore.latest."""
        newest: dict[str, Sample] = {}
        for condition in _conditions(instrument_ids):
            found = self._select(
                f"SELECT power_mw, state, energy_mwh FROM power WHERE {_span(0, END_MS)}{condition}"
                " GROUP BY instrument ORDER BY time DESC LIMIT 1"
            )
            for _, instrument_id, rows in found:
                newest.update((instrument_id, sample) for sample in _samples(instrument_id, rows))
        return {instrument_id: newest[instrument_id] for instrument_id in sorted(newest)}

    def coverage(self, instrument_id: str, from_ms: int, to_ms: int, period_ms: int) -> Coverage:
        """See SeriesStore.coverage."""
        check_span(from_ms, to_ms)
        slices = self._slices("count(power_mw)", instrument_id, from_ms, to_ms, checked_period(period_ms))
        return coverage_of(from_ms, to_ms, period_ms, len(slices))

    def expire(self, before_ms: int) -> int:
        """See SeriesStore.expire. The mark comes first: from then on nobody writes into what is being deleted."""
        hour = max(hour_of(before_ms), self._expired_before())
        complaint = self._write_lines([f"series_mark expired_before_ms={hour}i 0"])
        if complaint is not None:
            raise SeriesUnavailable(f"{self._at.url} refuses the mark of expiry: {complaint}")
        self._query(f"DELETE FROM power WHERE time < {hour - MAX_HOLD_MS}ms")
        return hour

    def ping(self) -> None:
        """See SeriesStore.ping."""
        self._expired_before()

    def close(self) -> None:
        """See SeriesStore.close."""
        self._client.close()

    def _expired_before(self) -> int:
        found = self._select(f"SELECT expired_before_ms FROM series_mark WHERE {_span(0, 1)}")
        return int(found[0][2][0][1]) if found else 0

    def _rows(self, hours: dict[str, list[int]]) -> dict[str, list[Row]]:
        """Return the raw rows that these hours' figures are made of. Instruments with the same hours share a query."""
        together: dict[tuple[int, int], list[str]] = {}
        for instrument_id, of_instrument in hours.items():
            for run in runs_of_hours(of_instrument):
                for day in range(run[0], run[1], 24 * HOUR_MS):
                    together.setdefault((day, min(run[1], day + 24 * HOUR_MS)), []).append(instrument_id)
        rows: dict[str, dict[int, Row]] = {instrument_id: {} for instrument_id in hours}
        for (from_ms, to_ms), instrument_ids in together.items():
            for condition in _conditions(instrument_ids):
                found = self._select(
                    "SELECT power_mw, state FROM power"
                    f" WHERE {_span(from_ms - MAX_HOLD_MS, to_ms)}{condition} GROUP BY instrument"
                )
                for _, one, values in found:
                    rows[one].update((row[0], tuple(row)) for row in values if _is_ours(row))
        return {instrument_id: [found[at] for at in sorted(found)] for instrument_id, found in rows.items()}

    def _slices(self, what: str, instrument_id: str, from_ms: int, to_ms: int, width: int) -> list[list[Any]]:
        """Aggregate over slices of `width` that begin at `from_ms`; slices without a sample are left out."""
        if from_ms >= to_ms:
            return []
        found = self._select(
            f"SELECT {what} FROM power WHERE instrument = '{checked_id(instrument_id)}' AND {_span(from_ms, to_ms)}"
            f" GROUP BY time({width}ms, {from_ms % width}ms) fill(none)"
        )
        return [row for _, _, rows in found for row in rows]

    def _write_hour_by_hour(self, samples: Iterable[Sample]) -> None:
        """Write samples again that came with a refused one, so that what is read back afterwards is the whole answer.

        The server answers as soon as one shard refuses: the others may still be writing, and what they say is lost.
        An hour never spans two shards (a shard group lasts a multiple of an hour), so each answer is of its own points.
        """
        by_hour: dict[int, list[str]] = {}
        for sample in samples:
            by_hour.setdefault(hour_of(sample.at_ms), []).append(_line(sample))
        for lines in by_hour.values():
            self._write_lines(lines)

    def _write_lines(self, lines: Sequence[str]) -> str | None:
        """Write lines; return None, or what the server says of those it refused (the others are being stored)."""
        complaint = None
        rest = iter(lines)
        while batch := list(islice(rest, _LINES)):
            try:
                body = "\n".join(batch)
                self._write_api.write(self._at.bucket, self._at.org, body, write_precision=WritePrecision.MS)  # type: ignore[arg-type]
            except ApiException as error:
                if error.status not in _POINTS_REFUSED:
                    raise self._away(error) from error
                complaint = _said(error)
                _log.warning("series_points_refused", bucket=self._at.bucket, server_says=complaint)
            except (InfluxDBError, HTTPError, OSError) as error:
                raise self._away(error) from error
        return complaint

    def _query(self, statement: str) -> dict[str, Any]:
        try:
            response = self._client.api_client.call_api(
                "/query",
                "POST",
                header_params={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
                post_params=[("db", self._at.bucket), ("epoch", "ms"), ("q", statement)],
                _preload_content=False,
                _return_http_data_only=True,
            )
            answer: dict[str, Any] = json.loads(response.data)["results"][0]
        except (InfluxDBError, HTTPError, OSError) as error:
            raise self._away(error) from error
        except (ValueError, LookupError) as error:
            raise SeriesUnavailable(f"{self._at.url} answers, but not as InfluxDB does: {error}") from error
        if "error" in answer:
            raise SeriesUnavailable(f"{self._at.url}: {answer['error']}")
        return answer

    def _select(self, statement: str) -> list[tuple[str, str, list[list[Any]]]]:
        """Return (measurement, instrument or "", rows) of each series found."""
        answer = self._query(statement)
        return [
            (series["name"], series.get("tags", {}).get("instrument", ""), series["values"])
            for series in answer.get("series", [])
        ]

    def _away(self, error: Exception) -> SeriesUnavailable:
        said = _said(error) if isinstance(error, ApiException) else f"{type(error).__name__}: {error}"
        return SeriesUnavailable(f"{self._at.url}, bucket {self._at.bucket}: {said}")


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


def _conditions(instrument_ids: Collection[str] | None) -> Iterator[str]:
    """Yield conditions that together name the instruments (wire ids need no escaping); one empty one for all."""
    if instrument_ids is None:
        yield ""
        return
    rest = iter(sorted({checked_id(one) for one in instrument_ids}))
    while some := list(islice(rest, _IDS)):
        yield f" AND instrument =~ /^({'|'.join(some)})$/"


def _span(from_ms: int, to_ms: int) -> str:
    return f"time >= {from_ms}ms AND time < {to_ms}ms"


def _said(error: ApiException) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or error.reason)
    return f"HTTP {error.status}: {body.strip()[:500]}"
