"""Find free slots on a calendar. Pure; aware datetimes in, half-open intervals.

Called where a slot is refused, so that the answer names others. Proposals keep the hours of the day that were asked
for: who asked for a morning is not offered three in the night.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from store.periods import SHANGHAI

STEP = timedelta(minutes=30)
LOOK_AHEAD = timedelta(days=14)
REACH = LOOK_AHEAD + timedelta(days=1)
"""How far ahead has to be known what is taken and open: the search itself begins up to a step late and ends a buffer
late."""
DAY_FROM_HOUR, DAY_TO_HOUR = 8, 18
_INSTANT, _DAY = timedelta(milliseconds=1), timedelta(days=1)


@dataclass(frozen=True, order=True)
class Interval:
    """Time in [from_at, to_at)."""

    from_at: datetime
    to_at: datetime

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two share an instant; touching is not sharing."""
        return self.from_at < other.to_at and other.from_at < self.to_at


def _anything(slot: Interval) -> bool:
    return True


def free_slots(
    busy: Iterable[Interval],
    wanted: Interval,
    buffer: timedelta,
    not_before: datetime,
    count: int = 3,
    *,
    step: timedelta = STEP,
    fits: Callable[[Interval], bool] = _anything,
) -> tuple[Interval, ...]:
    """Return up to `count` free slots as long as `wanted`, nearest after it first, none overlapping another.

    `busy` are occupied intervals (buffers included); a proposal leaves `buffer` free behind itself, as a booking
    would. Looks up to 14 days beyond the wanted start; starts at full steps of the day, not before `not_before`, and
    proposes what `fits` alone.
    """
    length = wanted.to_at - wanted.from_at
    taken = sorted(busy)
    by_day = _within_day(wanted)
    found: list[Interval] = []
    start = _next_step(max(wanted.from_at, not_before), step)
    until = start + LOOK_AHEAD
    while start < until and len(found) < count:
        slot = Interval(start, start + length)
        occupied = Interval(start, slot.to_at + buffer)
        clash = next((row for row in taken if row.overlaps(occupied)), None)
        if clash is not None:
            start = _next_step(max(start + _INSTANT, clash.to_at), step)
        elif (by_day and not _within_day(slot)) or not fits(slot):
            start = _next_step(start + _INSTANT, step)
        else:
            found.append(slot)
            start = _next_step(occupied.to_at, step)
    return tuple(found)


def _next_step(moment: datetime, step: timedelta) -> datetime:
    local = moment.astimezone(SHANGHAI)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    steps = -((midnight - local) // step)
    # Steps are counted from each day's own midnight, also where they do not divide the day.
    return min(midnight + steps * step, midnight + _DAY)


def _within_day(slot: Interval) -> bool:
    start, end = slot.from_at.astimezone(SHANGHAI), slot.to_at.astimezone(SHANGHAI)
    opens = start.replace(hour=DAY_FROM_HOUR, minute=0, second=0, microsecond=0)
    closes = start.replace(hour=DAY_TO_HOUR, minute=0, second=0, microsecond=0)
    return opens <= start and end <= closes
