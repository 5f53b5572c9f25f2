"""The time series of power: what it promises, whichever server keeps it. The gateway writes, the API and worker read.

Only composition roots call `open_series`. Everything is integers (milliseconds since 1970 UTC, milliwatt, milliwatt
hours), so that the canonical bytes of a curve are the same from every backend. Intervals are half-open.
Fees are never computed from here: they rest on the ledger; samples are evidence and pictures. Readings (what meters
show beside power and energy) are pictures only, and floats.
"""

import importlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from store.errors import StoreError
from wire.ids import is_quantity, is_wire_id
from wire.messages import PowerState

HOUR_MS = 3_600_000
MAX_HOLD_MS = 30_000
"""How long a sample speaks for its instrument when none follows. One value for all, or hours would not compare."""

STATE_CODES = {PowerState.OFF: 0, PowerState.STANDBY: 1, PowerState.RUNNING: 2, PowerState.UNKNOWN: 3}
STATE_NAMES = {code: state for state, code in STATE_CODES.items()}

END_MS = 9_000_000_000_000
"""The end of time here (year 2255): its nanoseconds still fit 64 bits. To read all there is, read [0, END_MS)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of an instrument's power. `state` is a code of STATE_CODES; `energy_mwh` is the meter's register."""

    instrument_id: str
    at_ms: int
    power_mw: int
    state: int
    energy_mwh: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What else a meter showed: a quantity named with its unit as on the wire (`volts_l1`, `celsius`)."""

    instrument_id: str
    at_ms: int
    quantity: str
    value: float


@dataclass(frozen=True, slots=True)
class HourlyUse:
    """One instrument in the hour that starts at `hour_ms`, as far as samples witness it.

    A sample holds until the next one, at most MAX_HOLD_MS; a hold that crosses the full hour counts on both sides.
    `power_avg_mw` is the mean over the time held (half up), `power_max_mw` the highest power held; `samples` counts
    the instants inside the hour. `unknown_ms` is time whose sample said "unknown"; see `hole_ms` for no sample at all.
    """

    instrument_id: str
    hour_ms: int
    samples: int
    power_avg_mw: int
    power_max_mw: int
    off_ms: int
    standby_ms: int
    running_ms: int
    unknown_ms: int

    @property
    def held_ms(self) -> int:
        """Milliseconds of the hour for which some sample speaks."""
        return self.off_ms + self.standby_ms + self.running_ms + self.unknown_ms

    @property
    def hole_ms(self) -> int:
        """Milliseconds of the hour nobody witnessed, those still to come included."""
        return HOUR_MS - self.held_ms


@dataclass(frozen=True, slots=True)
class Thinned:
    """The samples of one slice of a chart: plain mean (half up) and highest power of `samples` readings."""

    start_ms: int
    samples: int
    power_mean_mw: int
    power_max_mw: int


@dataclass(frozen=True, slots=True)
class ThinnedReadings:
    """The readings of one quantity in one slice of a chart. The last digits of `mean` depend on the backend."""

    start_ms: int
    readings: int
    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of `expected` sampling periods in an interval, `present` hold at least one sample."""

    expected: int
    present: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sample that was not stored, and the sentence why."""

    sample: Sample
    reason: str


@dataclass(frozen=True, slots=True)
class RefusedReading:
    """A reading that was not stored, and the sentence why."""

    reading: Reading
    reason: str


class SeriesError(StoreError):
    """Base of what a time-series store raises."""


class SeriesUnavailable(SeriesError):
    """The store is away, busy, full or not set up. Nothing is promised about the call; repeating it is harmless."""


class SeriesRefused(SeriesError):
    """Some points can never be stored; all others of the call are. Repeating the call changes nothing."""

    def __init__(self, refused: Sequence[Refusal]) -> None:
        self.refused = tuple(refused)
        first = self.refused[0]
        super().__init__(f"refused {first.sample!r}: {first.reason}{_more(refused)}")


class ReadingsRefused(SeriesError):
    """Some readings can never be stored; all others of the call are. Repeating the call changes nothing."""

    def __init__(self, refused: Sequence[RefusedReading]) -> None:
        self.refused = tuple(refused)
        first = self.refused[0]
        super().__init__(f"refused {first.reading!r}: {first.reason}{_more(refused)}")


def _more(refused: Sequence[object]) -> str:
    return f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""


class SeriesStore(Protocol):
    """A place that keeps samples, their hourly roll-up, and readings. Safe to share between threads.

    Every method raises SeriesUnavailable within the time-out of the URL when the store is away, and ValueError for
    an instrument that is no wire id, a quantity with an impossible name or an interval outside [0, END_MS).
    """

    def write(self, samples: Collection[Sample]) -> None:
        """Store samples, in any order, and bring the hours they touch up to date. On return they are on disk.

        The key is (instrument_id, at_ms). Writing a sample again changes nothing; a different one with the same key
        replaces power and state, and the energy register where it brings one (the last one of a call wins).
        Raises SeriesRefused, after storing the others, for points that are out of range or already expired.
        """
        ...

    def read(self, instrument_id: str, from_ms: int, to_ms: int, limit: int | None = None) -> Iterator[Sample]:
        """Yield the samples of [from_ms, to_ms) in time order, at most `limit`.

        Read in pages while the caller iterates, so a slow caller holds no lock; a writer may add between two pages.
        """
        ...

    def thinned(self, instrument_id: str, from_ms: int, to_ms: int, buckets: int) -> list[Thinned]:
        """Return [from_ms, to_ms) cut into at most `buckets` slices of equal width (the last may be short).

        Slices without a sample are left out. Raises ValueError when `buckets` is below 1.
        """
        ...

    def hourly(self, instrument_ids: Collection[str] | None, from_ms: int, to_ms: int) -> list[HourlyUse]:
        """Return the hours that *start* in [from_ms, to_ms), of these instruments (None: of all).

        Sorted by instrument and hour. Served from the roll-up, so it outlives the raw samples. Hours are UTC hours,
        which are Asia/Shanghai hours too.
        """
        ...

    def latest(self, instrument_ids: Collection[str] | None = None) -> dict[str, Sample]:
        """Return the newest sample kept of each instrument (None: of all); instruments without one are left out."""
        ...

    def coverage(self, instrument_id: str, from_ms: int, to_ms: int, period_ms: int) -> Coverage:
        """Count the periods of `period_ms`, laid from `from_ms`, that hold a sample. Raises ValueError below 1 ms."""
        ...

    def write_readings(self, readings: Collection[Reading]) -> None:
        """Store readings, in any order. On return they are on disk. Samples and their hours are not touched.

        The key is (instrument_id, quantity, at_ms). Writing a reading again changes nothing; another value with the
        same key replaces it (the last one of a call wins).
        Raises ReadingsRefused, after storing the others, for readings that are out of range or already expired.
        """
        ...

    def readings(self, instrument_id: str, quantity: str, from_ms: int, to_ms: int) -> Iterator[Reading]:
        """Yield the readings of one quantity in [from_ms, to_ms) in time order, in pages like `read`."""
        ...

    def thinned_readings(
        self, instrument_id: str, quantity: str, from_ms: int, to_ms: int, buckets: int
    ) -> list[ThinnedReadings]:
        """Return [from_ms, to_ms) of one quantity cut into slices as by `thinned`."""
        ...

    def quantities(self, instrument_id: str, from_ms: int, to_ms: int) -> list[str]:
        """Return the names of the quantities that have a reading in [from_ms, to_ms), sorted."""
        ...

    def expire(self, before_ms: int) -> int:
        """Delete raw samples and readings older than the full hour at or below `before_ms`; return that hour. Roll-ups
        stay.

        The samples of the last MAX_HOLD_MS before that hour stay too: the first hour kept is computed with them. From
        then on older samples are refused, because their hour could no longer be computed, and older readings with
        them. Never moves backwards.
        """
        ...

    def ping(self) -> None:
        """Return if the store answers and is set up."""
        ...

    def close(self) -> None:
        """Give connections back. The store is not used afterwards."""
        ...


BACKENDS = {
    "sqlite": "store.series_sqlite:open_sqlite",
    "influxdb": "store.series_influx:open_influx",
    "influxdbs": "store.series_influx:open_influx",
}
PREPARERS = {"sqlite": "store.series_sqlite:prepare_sqlite"}


class _Opener(Protocol):
    def __call__(self, url: str, token: str | None) -> SeriesStore: ...


def open_series(url: str, token: str | None = None) -> SeriesStore:
    """Open the store that `url` names. The schema must be there already; nothing is contacted yet.

    `sqlite:////var/lib/openlab/series.db` or `influxdb://host:8086/org/bucket?token_file=/run/secrets/influx`
    (`influxdbs` for TLS); both take `timeout_ms`. `token` goes before `token_file`. Raises ValueError with a sentence
    that says what is wrong with the URL.
    """
    scheme = url.partition("://")[0]
    if scheme not in BACKENDS:
        raise ValueError(f"no time-series backend is called {scheme!r}; known: {', '.join(sorted(BACKENDS))}")
    module, _, name = BACKENDS[scheme].partition(":")
    try:
        opener = cast(_Opener, getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{scheme}:// needs the package {error.name!r}; install the extra `openlab[influx]`"
        ) from error
    return opener(url, token)


def prepare_series(url: str) -> bool:
    """Make or migrate the schema that `url` needs; return whether there is one of ours (a server keeps its own).

    Harmless where nothing is missing. Raises ValueError as `open_series`.
    """
    scheme = url.partition("://")[0]
    if scheme not in BACKENDS:
        raise ValueError(f"no time-series backend is called {scheme!r}; known: {', '.join(sorted(BACKENDS))}")
    if scheme not in PREPARERS:
        return False
    module, _, name = PREPARERS[scheme].partition(":")
    getattr(importlib.import_module(module), name)(url)
    return True


def checked_id(instrument_id: str) -> str:
    """Return the id if it is a wire id (so it needs no escaping in any query). Raises ValueError otherwise."""
    if not is_wire_id(instrument_id):
        raise ValueError(f"{instrument_id!r} is not the wire id of an instrument")
    return instrument_id


def checked_quantity(quantity: str) -> str:
    """Return the name if a quantity may have it (so it needs no escaping in any query). Raises ValueError otherwise."""
    if not is_quantity(quantity):
        raise ValueError(f"{quantity!r} is not the name of a quantity")
    return quantity


def check_span(from_ms: int, to_ms: int) -> None:
    """Raise ValueError for an interval outside [0, END_MS). An empty or reversed one is allowed and holds nothing."""
    if not (0 <= from_ms <= END_MS and 0 <= to_ms <= END_MS):
        raise ValueError(f"the interval {from_ms}..{to_ms} is outside 0..{END_MS} ms")
