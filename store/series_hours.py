"""Rules that every time-series backend shares, so that they agree to the last digit. Pure: values in, values out.

Called by the backends only. A sample holds from its instant until the next sample of its instrument, at most
MAX_HOLD_MS. An hour's figures therefore depend on its own samples and on those of the MAX_HOLD_MS before it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice

from store.series import END_MS, HOUR_MS, MAX_HOLD_MS, STATE_NAMES, Coverage, HourlyUse, Refusal, Sample
from wire.ids import is_wire_id

Row = tuple[int, int, int]
"""(at_ms, power_mw, state): what the roll-up needs of a sample."""

_MAX_POWER_MW = 10**12  # 1 GW for an hour, in milliwatt milliseconds, still fits 64 bits
_MAX_ENERGY_MWH = 2**62


def reason_to_refuse(sample: Sample, expired_before_ms: int) -> str | None:
    """Return why no store may keep this sample, or None. Both backends ask this, so they refuse alike."""
    numbers = (sample.at_ms, sample.power_mw, sample.state, 0 if sample.energy_mwh is None else sample.energy_mwh)
    if not isinstance(sample.instrument_id, str) or not is_wire_id(sample.instrument_id):
        return "the instrument is not a wire id"
    if any(type(number) is not int for number in numbers):
        return "time, power, state and energy are whole numbers"
    if not 0 <= sample.at_ms < END_MS:
        return f"the time is outside 0..{END_MS} ms"
    if abs(sample.power_mw) > _MAX_POWER_MW:
        return f"the power is beyond {_MAX_POWER_MW} mW"
    if sample.state not in STATE_NAMES:
        return f"the state is not one of {sorted(STATE_NAMES)}"
    if sample.energy_mwh is not None and not 0 <= sample.energy_mwh <= _MAX_ENERGY_MWH:
        return f"the energy register is outside 0..{_MAX_ENERGY_MWH} mWh"
    if sample.at_ms < expired_before_ms:
        return f"samples before {expired_before_ms} ms have expired"
    return None


def sort_out(samples: Iterable[Sample], expired_before_ms: int) -> tuple[list[Sample], list[Refusal]]:
    """Split into what may be stored (one a key, sorted by key) and what may not.

    Of samples with one key the last wins, keeping the energy register of an earlier one where it brings none.
    """
    kept: dict[tuple[str, int], Sample] = {}
    refused: list[Refusal] = []
    for sample in samples:
        reason = reason_to_refuse(sample, expired_before_ms)
        if reason is not None:
            refused.append(Refusal(sample, reason))
            continue
        key = (sample.instrument_id, sample.at_ms)
        before = kept.get(key)
        if before is not None and sample.energy_mwh is None and before.energy_mwh is not None:
            sample = Sample(sample.instrument_id, sample.at_ms, sample.power_mw, sample.state, before.energy_mwh)
        kept[key] = sample
    return [kept[key] for key in sorted(kept)], refused


def touched_hours(samples: Iterable[Sample]) -> dict[str, list[int]]:
    """Return, for each instrument, the starts of the hours whose figures these samples may change, ascending.

    A sample near the end of an hour holds into the next one. It cannot change the hour before its own: whatever held
    there was cut off at the full hour anyway.
    """
    hours: dict[str, set[int]] = {}
    for sample in samples:
        of_instrument = hours.setdefault(sample.instrument_id, set())
        of_instrument.add(hour_of(sample.at_ms))
        of_instrument.add(hour_of(sample.at_ms + MAX_HOLD_MS - 1))
    return {instrument_id: sorted(hours[instrument_id]) for instrument_id in sorted(hours)}


def hour_of(at_ms: int) -> int:
    """Return the start of the hour that holds `at_ms`."""
    return at_ms - at_ms % HOUR_MS


def hour_from_rows(instrument_id: str, hour_ms: int, rows: Sequence[Row]) -> HourlyUse | None:
    """Return the hour's figures, or None if no sample speaks for any of it.

    `rows` are all samples of the instrument in [hour_ms - MAX_HOLD_MS, hour_ms + HOUR_MS), ascending.
    """
    if not rows:
        return None
    end_ms = hour_ms + HOUR_MS
    power_time = 0
    power_max: int | None = None
    held = [0, 0, 0, 0]
    followed_by = chain((row[0] for row in islice(rows, 1, None)), (end_ms,))
    for (at_ms, power_mw, state), next_ms in zip(rows, followed_by, strict=True):
        until = at_ms + MAX_HOLD_MS
        if next_ms < until:
            until = next_ms
        if until > end_ms:
            until = end_ms
        span = until - (at_ms if at_ms > hour_ms else hour_ms)
        if span <= 0:
            continue
        held[state] += span
        power_time += power_mw * span
        if power_max is None or power_mw > power_max:
            power_max = power_mw
    if power_max is None:
        return None
    samples = len(rows) - bisect_left(rows, (hour_ms,))
    return HourlyUse(instrument_id, hour_ms, samples, rounded_mean(power_time, sum(held)), power_max, *held)


def hours_from_rows(instrument_id: str, hours: Iterable[int], rows: Sequence[Row]) -> list[HourlyUse]:
    """Return the figures of several hours out of one ascending run of rows that covers them all."""
    figures = []
    for hour in hours:
        begin, end = bisect_left(rows, (hour - MAX_HOLD_MS,)), bisect_left(rows, (hour + HOUR_MS,))
        figure = hour_from_rows(instrument_id, hour, rows[begin:end])
        if figure is not None:
            figures.append(figure)
    return figures


def runs_of_hours(hours: Sequence[int]) -> list[tuple[int, int]]:
    """Join neighbouring hours: return half-open (from, to) runs that cover ascending `hours` and nothing else."""
    runs: list[tuple[int, int]] = []
    for hour in hours:
        if runs and runs[-1][1] == hour:
            runs[-1] = (runs[-1][0], hour + HOUR_MS)
        else:
            runs.append((hour, hour + HOUR_MS))
    return runs


def rounded_mean(total: int, count: int) -> int:
    """Return total / count to the nearest integer, halves towards plus infinity. `count` is positive."""
    return (2 * total + count) // (2 * count)


def slice_width(from_ms: int, to_ms: int, buckets: int) -> int:
    """Return the width of `buckets` equal slices that cover [from_ms, to_ms). Raises ValueError below one bucket."""
    if buckets < 1:
        raise ValueError("a chart has at least one bucket")
    return max(1, -(-(to_ms - from_ms) // buckets))


def coverage_of(from_ms: int, to_ms: int, period_ms: int, present: int) -> Coverage:
    """Return the coverage when `present` periods hold a sample."""
    return Coverage(max(0, -(-(to_ms - from_ms) // period_ms)), present)


def checked_period(period_ms: int) -> int:
    """Return `period_ms`. Raises ValueError below one millisecond."""
    if period_ms < 1:
        raise ValueError("a sampling period is at least one millisecond")
    return period_ms


def not_stored(samples: Iterable[Sample], stored: Mapping[str, Mapping[int, Row]], reason: str) -> list[Refusal]:
    """Return refusals for those `samples` that are not among the rows read back after the store refused some."""
    refused = []
    for sample in samples:
        row = stored.get(sample.instrument_id, {}).get(sample.at_ms)
        if row != (sample.at_ms, sample.power_mw, sample.state):
            refused.append(Refusal(sample, reason))
    return refused
