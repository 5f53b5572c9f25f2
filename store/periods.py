"""Periods: calendar months of Asia/Shanghai as integers yyyymm, and the kinds made of them.

A period is its kind and its first month. An interval belongs to the month of its last instant, `to - 1 ms`:
what ended at 00:00:00 on the 1st belongs to the month before.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


class PeriodKind(StrEnum):
    """How many months a reward period has; it starts at a multiple of them in the calendar year."""

    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


def month_of(moment: datetime) -> int:
    """Return the month of an instant. Raises ValueError for a naive datetime."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime belongs to no month; give an aware one")
    local = moment.astimezone(SHANGHAI)
    return local.year * 100 + local.month


def month_of_interval(to: datetime) -> int:
    """Return the month that a half-open interval ending at `to` belongs to."""
    return month_of(to - timedelta(milliseconds=1))


def month_bounds(month: int) -> tuple[datetime, datetime]:
    """Return [first instant, first instant of the next month) of a month, in UTC."""
    check_month(month)
    start = datetime(month // 100, month % 100, 1, tzinfo=SHANGHAI)
    following = next_month(month)
    end = datetime(following // 100, following % 100, 1, tzinfo=SHANGHAI)
    return start.astimezone(UTC), end.astimezone(UTC)


def next_month(month: int, count: int = 1) -> int:
    """Return the month `count` months after `month`."""
    index = (month // 100) * 12 + month % 100 - 1 + count
    return (index // 12) * 100 + index % 12 + 1


def check_month(month: int) -> int:
    """Return `month` if it is a calendar month written yyyymm. Raises ValueError otherwise."""
    if not (2000 <= month // 100 <= 2999 and 1 <= month % 100 <= 12):
        raise ValueError(f"{month} is not a month; write it like 202611")
    return month


def months_of_period(kind: PeriodKind, first: int) -> tuple[int, ...]:
    """Return the months of a period. Raises ValueError where no period of that kind starts at `first`."""
    check_month(first)
    length = _MONTHS[kind]
    if (first % 100 - 1) % length:
        raise ValueError(f"no {kind} starts at {first}")
    return tuple(next_month(first, i) for i in range(length))


def parse_month(text: str) -> int:
    """Read `2026-11` or `202611`. Raises ValueError with the form that is expected."""
    digits = text.replace("-", "")
    if len(digits) != 6 or not digits.isdigit():
        raise ValueError(f"{text!r} is not a month; write it like 2026-11")
    return check_month(int(digits))


def parse_period(text: str) -> tuple[PeriodKind, int]:
    """Read `2026` (year), `2026-Q4` (quarter) or `2026-11` (month). Raises ValueError naming the three forms."""
    if len(text) == 4 and text.isdigit():
        return PeriodKind.YEAR, check_month(int(text) * 100 + 1)
    if len(text) == 7 and text[4:6].upper() == "-Q" and text[:4].isdigit() and text[6] in "1234":
        return PeriodKind.QUARTER, check_month(int(text[:4]) * 100 + 3 * int(text[6]) - 2)
    try:
        return PeriodKind.MONTH, parse_month(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a period; write 2026, 2026-Q4 or 2026-11") from None


def format_period(kind: PeriodKind, first: int) -> str:
    """Return the text that `parse_period` reads."""
    year, month = divmod(first, 100)
    if kind is PeriodKind.YEAR:
        return f"{year}"
    return f"{year}-Q{(month + 2) // 3}" if kind is PeriodKind.QUARTER else f"{year}-{month:02d}"
