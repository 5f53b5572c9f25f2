"""Which times of the week belong to which band of a price. Pure; Asia/Shanghai, which is UTC+8 without summer time.

Called by rating (to split time) and by charging (to know at which instants the odometer has to be read). `days` are the
days that are not what their weekday says, by `number_of_day`; a holiday counts as its weekday where no band names it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

from api.charging.tariff_parts import WEEK, Band, Day

SHANGHAI_MS = 8 * 3_600_000
DAY_MS = 86_400_000
_MONDAY = 4
"""1970-01-01 was a Thursday, so day 4 was a Monday."""
_FIRST_DAY = date(1970, 1, 1).toordinal()
_NO_DAYS: Mapping[int, Day] = {}


@dataclass(frozen=True, slots=True)
class Stretch:
    """[from_ms, to_ms) in one band, or in none of them. `window_ms`: when this window of the band started."""

    band: Band | None
    from_ms: int
    to_ms: int
    window_ms: int = 0


def day_of_week(day_number: int) -> Day:
    """Return the day of the week of a day counted from 1970-01-01."""
    return WEEK[(day_number - _MONDAY) % 7]


def number_of_day(day: str) -> int:
    """Return the number of a day (YYYY-MM-DD), counted from 1970-01-01. Raises ValueError."""
    return date.fromisoformat(day).toordinal() - _FIRST_DAY


def days_touched(from_ms: int, to_ms: int) -> tuple[str, str]:
    """Return the first and the last day (YYYY-MM-DD) whose windows may share an instant with [from_ms, to_ms]."""
    first, last = (from_ms + SHANGHAI_MS) // DAY_MS - 1, (to_ms + SHANGHAI_MS) // DAY_MS
    return date.fromordinal(first + _FIRST_DAY).isoformat(), date.fromordinal(last + _FIRST_DAY).isoformat()


def windows_between(
    bands: Sequence[Band], from_ms: int, to_ms: int, days: Mapping[int, Day] = _NO_DAYS
) -> list[Stretch]:
    """Return the windows of the bands that share an instant with [from_ms, to_ms), in time order.

    Whole, but where special days bring two together: there the one ends where the next starts.
    """
    found = []
    first, last = (from_ms + SHANGHAI_MS) // DAY_MS - 1, (to_ms + SHANGHAI_MS) // DAY_MS
    for number in range(first, last + 1):
        day, midnight = _day(bands, number, days), number * DAY_MS - SHANGHAI_MS
        for band in bands:
            start = midnight + band.start_s * 1000
            end = start + band.length_s * 1000
            if day in band.days and start < to_ms and end > from_ms:
                found.append(Stretch(band, start, end, start))
    found.sort(key=lambda each: each.from_ms)
    if days:
        ends = [min(each.to_ms, following.from_ms) for each, following in pairwise(found)]
        found[:-1] = [replace(each, to_ms=end) for each, end in zip(found, ends, strict=False)]
        # What was taken over before the asked time began shares no instant with it.
        found = [each for each in found if each.to_ms > from_ms]
    return found


def _day(bands: Sequence[Band], number: int, days: Mapping[int, Day]) -> Day:
    day = days.get(number)
    if day is None or (day is Day.HOLIDAY and not any(day in band.days for band in bands)):
        return day_of_week(number)
    return day


def cut(bands: Sequence[Band], from_ms: int, to_ms: int, days: Mapping[int, Day] = _NO_DAYS) -> Iterator[Stretch]:
    """Yield [from_ms, to_ms) cut at every edge of a band: touching stretches in time order, none empty."""
    at = from_ms
    for window in windows_between(bands, from_ms, to_ms, days):
        if window.from_ms > at:
            yield Stretch(None, at, window.from_ms)
            at = window.from_ms
        end = min(window.to_ms, to_ms)
        yield Stretch(window.band, at, end, window.window_ms)
        at = end
    if at < to_ms:
        yield Stretch(None, at, to_ms)


def edges(bands: Sequence[Band], from_ms: int, to_ms: int, days: Mapping[int, Day] = _NO_DAYS) -> list[int]:
    """Return the instants strictly inside (from_ms, to_ms) at which a band begins or ends."""
    return [stretch.from_ms for stretch in cut(bands, from_ms, to_ms, days) if stretch.from_ms > from_ms]
