"""How a period is written in addresses and commands."""

from api.errors import invalid
from store.periods import PeriodKind, parse_period


def read_period(text: str) -> tuple[PeriodKind, int]:
    """Read `2026` (year), `2026-Q4` (quarter) or `2026-11` (month). Refused 422 `bad_period`."""
    try:
        return parse_period(text)
    except ValueError as error:
        raise invalid(
            "bad_period",
            f"{text!r} 不是期间;请写成 2026、2026-Q4 或 2026-11。",
            f"{error}.",
            field="period",
        ) from None
