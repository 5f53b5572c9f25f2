"""When a simulated instrument is switched on, and when it runs: the working day of a county laboratory. Pure.

Everything is a function of a seed and of wall time (UTC milliseconds; the working day is Asia/Shanghai), so two
processes, or one that was restarted, tell the same story. What is asked of an instrument (its bookings) and what
really happens differ here as they do in a lab: people start late, stay longer, do not come, or come unannounced.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# China has had one time zone and no summer time since 1992: the offset is a constant, no zone data is needed.
SHANGHAI_OFFSET = 8 * HOUR


@dataclass(frozen=True)
class Habits:
    """How often things go otherwise than booked. Shares between 0 and 1."""

    no_show: float = 0.06
    late: float = 0.5
    late_max_min: int = 12
    ends_early: float = 0.3
    ends_early_max_min: int = 15
    overruns: float = 0.3
    overrun_max_min: int = 20
    walk_ins_per_week: tuple[int, int] = (1, 3)
    walk_in_min: tuple[int, int] = (15, 75)
    off_at_night: float = 0.6
    works_saturday: float = 0.25


Span = tuple[int, int]


def _chance(*parts: object) -> random.Random:
    # A string seed: `hash()` of a string differs from process to process.
    return random.Random("/".join(str(part) for part in parts))


def local_day(wall_ms: int) -> int:
    """Return the number of the Asia/Shanghai day that `wall_ms` lies in (days since 1970-01-01)."""
    return (wall_ms + SHANGHAI_OFFSET) // DAY


def day_start(day: int) -> int:
    """Return the UTC milliseconds at which an Asia/Shanghai day begins."""
    return day * DAY - SHANGHAI_OFFSET


def working_hours(seed: str, day: int, habits: Habits) -> Span | None:
    """Return when the instrument is switched on that day, or None on a day off."""
    chance = _chance(seed, "day", day)
    weekday = (day + 3) % 7
    if weekday == 6 or (weekday == 5 and chance.random() >= habits.works_saturday):
        return None
    start = day_start(day)
    opens = start + 8 * HOUR + chance.randint(10, 50) * MINUTE
    closes = start + 17 * HOUR + chance.randint(10, 80) * MINUTE
    return opens, closes


def off_at_night(seed: str, day: int, habits: Habits) -> bool:
    """Whether the last to leave that day switches it off (else it stays in standby)."""
    return _chance(seed, "night", day).random() < habits.off_at_night


def what_became_of(seed: str, booked: Span, habits: Habits) -> Span | None:
    """Return when the run of a booking really takes place, or None where nobody comes."""
    chance = _chance(seed, "booked", *booked)
    if chance.random() < habits.no_show:
        return None
    start, end = booked
    if chance.random() < habits.late:
        start += chance.randint(1, habits.late_max_min) * MINUTE
    turn = chance.random()
    if turn < habits.ends_early:
        end -= chance.randint(1, habits.ends_early_max_min) * MINUTE
    elif turn < habits.ends_early + habits.overruns:
        end += chance.randint(1, habits.overrun_max_min) * MINUTE
    return (start, end) if end - start >= 2 * MINUTE else (booked[0], booked[1])


def walk_ins(seed: str, day: int, habits: Habits) -> list[Span]:
    """Return the runs that nobody booked on that day."""
    week, weekday = divmod(day + 3, 7)
    chance = _chance(seed, "week", week)
    out = []
    for _ in range(chance.randint(*habits.walk_ins_per_week)):
        on_day, minute = chance.randint(0, 4), chance.randint(9 * 60, 16 * 60)
        length = chance.randint(*habits.walk_in_min)
        if on_day == weekday:
            start = day_start(day) + minute * MINUTE
            out.append((start, start + length * MINUTE))
    return sorted(out)


def runs_of_day(seed: str, day: int, booked: Iterable[Span], habits: Habits) -> list[Span]:
    """Return the real runs that touch a day, joined where they overlap.

    A walk-in gives way to a booked run: it takes place only where it keeps ten minutes of distance.
    """
    start, end = day_start(day), day_start(day + 1)
    real = [run for span in booked if (run := what_became_of(seed, span, habits)) is not None]
    real = [run for run in real if run[0] < end and run[1] > start]
    for walk_in in walk_ins(seed, day, habits):
        if all(walk_in[1] + 10 * MINUTE < run[0] or walk_in[0] > run[1] + 10 * MINUTE for run in real):
            real.append(walk_in)
    joined: list[Span] = []
    for run in sorted(real):
        if joined and run[0] <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], run[1]))
        else:
            joined.append(run)
    return joined
