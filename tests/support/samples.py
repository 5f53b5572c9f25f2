"""Power samples that tests of the time series write and read back."""

from store.series import END_MS, HOUR_MS, STATE_CODES, HourlyUse, Sample, SeriesStore
from wire.messages import PowerState

OFF, STANDBY, RUNNING, UNKNOWN = (STATE_CODES[state] for state in PowerState)
H = 450_000 * HOUR_MS  # a full hour of 2021
SPINDLE, OVEN = "xc-h01-01", "xc-h02-01"


def steady(
    from_ms: int, to_ms: int, state: int = RUNNING, power_mw: int = 1_500_000, of: str = SPINDLE
) -> list[Sample]:
    """A sample every 10 s of [from_ms, to_ms)."""
    return [Sample(of, at, power_mw, state, (at - H) // 10 + 10**9) for at in range(from_ms, to_ms, 10_000)]


def all_of(series: SeriesStore, instrument_id: str = SPINDLE) -> list[Sample]:
    return list(series.read(instrument_id, 0, END_MS))


def the_hours(series: SeriesStore, *instrument_ids: str) -> list[HourlyUse]:
    return series.hourly(instrument_ids or None, 0, END_MS)
