"""When an instrument is open: its week as text, and the days that are not like their weekday. Pure.

The week is in Asia/Shanghai: `1-5 08:30-12:00,13:30-17:30; 6 08:30-12:00` (1 is Monday). Nothing written: never open.
Read by the booking rules, the catalogue and the import; kept as `Instrument.open_hours` in the form of `canonical`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache

from store.periods import SHANGHAI
from store.tables.registry import SpecialDay
from store.types import AnyRow

Span = tuple[datetime, datetime]
Windows = tuple[tuple[int, int], ...]
"""Open minutes of a day, counted from its midnight, half-open, in order and apart."""

DAY_MINUTES = 1440
_ALWAYS = (((0, DAY_MINUTES),),) * 7
_DAYS = re.compile(r"[1-7](-[1-7])?(,[1-7](-[1-7])?)*\Z")
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)\Z")


class BadHours(ValueError):
    """A text that is no week; says what is wrong with which part, in English and (`zh`) in Chinese."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh = zh


@dataclass(frozen=True)
class Opening:
    """A week (canonical text) and the days that differ: `YYYY-MM-DD` -> None (closed) or the weekday they are like."""

    week: str
    special: Mapping[str, int | None] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def parse_week(text: str) -> tuple[Windows, ...]:
    """Return the windows of Monday to Sunday. Raises BadHours for what cannot be read or overlaps."""
    week: list[list[tuple[int, int]]] = [[] for _ in range(7)]
    for part in filter(None, (part.strip() for part in text.split(";"))):
        days, _, hours = part.partition(" ")
        if not _DAYS.match(days):
            raise BadHours(
                f"“{days}”不是星期;应写作 1-5 或 1,3,6(1 为星期一)",
                f"{days!r} names no days; write 1-5 or 1,3,6 (1 is Monday)",
            )
        windows = [_window(each.strip()) for each in hours.split(",")]
        for day in _weekdays(days):
            week[day - 1] += windows
    return tuple(_in_order(windows) for windows in week)


def canonical(text: str) -> str:
    """Return the one way to write this week. Raises BadHours."""
    week = parse_week(text)
    parts: list[str] = []
    for day in range(1, 8):
        windows = week[day - 1]
        if not windows or (day > 1 and week[day - 2] == windows):
            continue
        last = day
        while last < 7 and week[last] == windows:
            last += 1
        hours = ",".join(f"{_clock(start)}-{_clock(end)}" for start, end in windows)
        parts.append(f"{day if last == day else f'{day}-{last}'} {hours}")
    return "; ".join(parts)


def merge_special(rows: Iterable[SpecialDay | AnyRow], host_id: str) -> dict[str, int | None]:
    """Return the days that are special to a host: the county's, and over them the host's own."""
    listed = list(rows)
    county = {row.day: row.like_weekday for row in listed if row.host_id is None}
    return county | {row.day: row.like_weekday for row in listed if row.host_id == host_id}


def open_spans(opening: Opening, from_at: datetime, to_at: datetime) -> list[Span]:
    """Return when it is open within [from_at, to_at): aware, in order, touching ones joined."""
    return list(spans_from(opening, from_at, to_at))


def spans_from(opening: Opening, from_at: datetime, to_at: datetime) -> Iterator[Span]:
    """Yield the same one by one, for who may not need them all."""
    week = parse_week(opening.week)
    if not opening.special and week == _ALWAYS:
        if from_at < to_at:
            yield from_at, to_at
        return
    held: Span | None = None
    day = from_at.astimezone(SHANGHAI).date()
    while (midnight := datetime.combine(day, time(), SHANGHAI)) < to_at:
        weekday = weekday_on(opening, day)
        for start, end in week[weekday - 1] if weekday else ():
            span = (max(midnight + timedelta(minutes=start), from_at), min(midnight + timedelta(minutes=end), to_at))
            if span[0] >= span[1]:
                continue
            if held is not None and held[1] == span[0]:
                held = (held[0], span[1])
                continue
            if held is not None:
                yield held
            held = span
        if held is not None and held[1] <= midnight:
            yield held
            held = None
        day += timedelta(days=1)
    if held is not None:
        yield held


def is_open(opening: Opening, from_at: datetime, to_at: datetime) -> bool:
    """Whether it is open during the whole of [from_at, to_at)."""
    return open_spans(opening, from_at, to_at) == [(from_at, to_at)]


def weekday_on(opening: Opening, day: date) -> int:
    """Return which weekday's hours hold on a day, 0 where it is closed."""
    name = day.isoformat()
    if name in opening.special:
        return opening.special[name] or 0
    return day.isoweekday()


def _weekdays(text: str) -> list[int]:
    days: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        chosen = range(int(first), int(last or first) + 1)
        if not chosen:
            raise BadHours(f"星期范围 {part} 首尾颠倒", f"the days {part} run backwards")
        days += chosen
    return days


def _window(text: str) -> tuple[int, int]:
    found = _WINDOW.match(text)
    if found is None:
        raise BadHours(
            f"“{text}”不是时段;应写作 08:30-17:30", f"{text!r} is no span of the day; write it like 08:30-17:30"
        )
    hour, minute, to_hour, to_minute = map(int, found.groups())
    start, end = hour * 60 + minute, to_hour * 60 + to_minute
    if end > DAY_MINUTES or end <= start:
        raise BadHours(
            f"时段 {text} 须在同一天内结束(最迟 24:00);跨夜请分成两天写",
            f"the span {text} has to end on the same day, at 24:00 at the latest; write a night as two days",
        )
    return start, end


def _in_order(windows: list[tuple[int, int]]) -> Windows:
    found: list[tuple[int, int]] = []
    for start, end in sorted(windows):
        if found and start < found[-1][1]:
            raise BadHours(
                f"{_clock(start)} 起的时段与前一时段重叠", f"the span from {_clock(start)} overlaps the one before"
            )
        if found and start == found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return tuple(found)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
