"""The InfluxDB bucket of the time series, through influxdb-client: how points go in and answers come out.

Used by `store.series_influx` and `store.series_readings_influx` only. Writes are synchronous: the client's batching
writer drops points silently when the server is away for long, and the gateway must know what is kept before it says so.
Reads are InfluxQL, the one language that InfluxDB 1.x, 2.7, 3 and Grafana share (1.6 needs `/api/v2/write` rewritten to
`/write`).
"""

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import structlog
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from store.influx_url import InfluxAddress
from store.series import SeriesUnavailable, checked_id

_LINES = 5_000  # points a request; the best of the sizes measured
_IDS = 200  # instruments named in one condition
_POINTS_REFUSED = (400, 422)  # 1.x and 2.x say "some points were rejected, the others are stored" with these

_log = structlog.get_logger(__name__)


class Found(NamedTuple):
    """One series of an answer: the tags it was grouped by ("" where it was not), and rows of time and values."""

    instrument: str
    quantity: str
    rows: list[list[Any]]


class InfluxBucket:
    """One bucket. Connections are the client's pool, which threads share. A server that is away, or answers otherwise
    than InfluxDB does, comes out as SeriesUnavailable."""

    def __init__(self, address: InfluxAddress) -> None:
        self._at = address
        self._client = InfluxDBClient(
            address.url, address.token, org=address.org, timeout=address.timeout_ms, retries=False
        )
        self._write_api = self._client.write_api(write_options=SYNCHRONOUS)

    @property
    def url(self) -> str:
        """The server's address, for sentences."""
        return self._at.url

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def expired_before(self) -> int:
        """Return the instant before which samples and readings have expired, 0 where nothing ever did."""
        found = self.select(f"SELECT expired_before_ms FROM series_mark WHERE {span(0, 1)}")
        return int(found[0].rows[0][1]) if found else 0

    def write_lines(self, lines: Sequence[str]) -> str | None:
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

    def query(self, statement: str) -> dict[str, Any]:
        """Run one InfluxQL statement and return the server's answer to it."""
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

    def select(self, statement: str) -> list[Found]:
        """Ask, with times in milliseconds; return the series found."""
        found = []
        for series in self.query(statement).get("series", []):
            tags = series.get("tags", {})
            found.append(Found(tags.get("instrument", ""), tags.get("quantity", ""), series["values"]))
        return found

    def _away(self, error: Exception) -> SeriesUnavailable:
        said = _said(error) if isinstance(error, ApiException) else f"{type(error).__name__}: {error}"
        return SeriesUnavailable(f"{self._at.url}, bucket {self._at.bucket}: {said}")


def conditions(instrument_ids: Collection[str] | None) -> Iterator[str]:
    """Yield conditions that together name the instruments (wire ids need no escaping); one empty one for all."""
    if instrument_ids is None:
        yield ""
        return
    rest = iter(sorted({checked_id(one) for one in instrument_ids}))
    while some := list(islice(rest, _IDS)):
        yield f" AND instrument =~ /^({'|'.join(some)})$/"


def span(from_ms: int, to_ms: int) -> str:
    """Return the condition for [from_ms, to_ms)."""
    return f"time >= {from_ms}ms AND time < {to_ms}ms"


def _said(error: ApiException) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or error.reason)
    return f"HTTP {error.status}: {body.strip()[:500]}"
