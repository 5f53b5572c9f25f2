"""Which times of the week belong to which band of a price. Pure; Asia/Shanghai, which is UTC+8 without summer time.

Called by rating (to split time) and by charging (to know at which instants the odometer has to be read).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from api.charging.tariff_parts import Band, Day

SHANGHAI_MS = 8 * 3_600_000
DAY_MS = 86_400_000
_MONDAY = 4
"""1970-01-01 was a Thursday, so day 4 was a Monday."""
_DAYS = tuple(Day)


@dataclass(frozen=True, slots=True)
class Stretch:
    """[from_ms, to_ms) in one band, or in none of them. `window_ms`: when this window of the band started."""

    band: Band | None
    from_ms: int
    to_ms: int
    window_ms: int = 0


def day_of_week(day_number: int) -> Day:
    """Return the day of the week of a day counted from 1970-01-01."""
    return _DAYS[(day_number - _MONDAY) % 7]


def windows_between(bands: Sequence[Band], from_ms: int, to_ms: int) -> list[Stretch]:
    """Return the windows of the bands that share an instant with [from_ms, to_ms), whole, in time order."""
    found = []
    first, last = (from_ms + SHANGHAI_MS) // DAY_MS - 1, (to_ms + SHANGHAI_MS) // DAY_MS
    for number in range(first, last + 1):
        day, midnight = day_of_week(number), number * DAY_MS - SHANGHAI_MS
        for band in bands:
            start = midnight + band.start_s * 1000
            end = start + band.length_s * 1000
            if day in band.days and start < to_ms and end > from_ms:
                found.append(Stretch(band, start, end, start))
    return sorted(found, key=lambda each: each.from_ms)


def cut(bands: Sequence[Band], from_ms: int, to_ms: int) -> Iterator[Stretch]:
    """Yield [from_ms, to_ms) cut at every edge of a band: touching stretches in time order, none empty."""
    at = from_ms
    for window in windows_between(bands, from_ms, to_ms):
        if window.from_ms > at:
            yield Stretch(None, at, window.from_ms)
            at = window.from_ms
        end = min(window.to_ms, to_ms)
        yield Stretch(window.band, at, end, window.window_ms)
        at = end
    if at < to_ms:
        yield Stretch(None, at, to_ms)


def edges(bands: Sequence[Band], from_ms: int, to_ms: int) -> list[int]:
    """Return the instants strictly inside (from_ms, to_ms) at which a band begins or ends."""
    return [stretch.from_ms for stretch in cut(bands, from_ms, to_ms) if stretch.from_ms > from_ms]
