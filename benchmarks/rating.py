"""What a price costs to compute: `python -m benchmarks.rating [--sessions 200000]`.

Sessions a second on one core: `rate()` of a plain tariff (one price an hour, set-up), with its input made anew and
with the input at hand; a tariff with everything (bands, packages, rush, options, discount); and, beside them, a bare
loop that does only the integers of the plain tariff (sum, steps, one division, VAT). The ratio says what the lines,
the rules that explain them and the checks of the input cost on top of the arithmetic.
"""

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from api.charging.rating import Asked, Discount, Piece, RatingInput, Times, rate
from api.charging.tariff_body import (
    Band,
    Day,
    Option,
    OptionKind,
    Prices,
    Rush,
    TariffBody,
    TimePrice,
    TimeUnit,
    UserCategory,
)
from store.tables.calendar import BookingMode

NINE_MS = 1_772_413_200_000
PLAIN = TariffBody(default=Prices(time=TimePrice(per=TimeUnit.HOUR, unit_fen=40_000, step_s=1800), setup_fen=5_000))
_BANDS = (
    Band(code="night", starts="22:00", ends="06:00", unit_fen=60_000),
    Band(code="evening", starts="17:30", ends="20:30", package_fen=120_000),
)
FULL = TariffBody(
    schema_name="openlab.tariff/2",
    default=Prices(
        time=TimePrice(per=TimeUnit.HOUR, unit_fen=40_000, step_s=1800, minimum_s=3600, bands=_BANDS),
        minimum_fen=10_000,
    ),
    rush=(Rush(code="day", surcharge_bp=10_000, name_zh="加急", name_en="in a day"),),
    options=(Option(code="seal", kind=OptionKind.REPORT, unit_fen=30_000, name_zh="报告", name_en="report"),),
)
FESTIVE = FULL.model_copy(
    update={
        "schema_name": "openlab.tariff/3",
        "default": Prices(
            time=TimePrice(
                per=TimeUnit.HOUR,
                unit_fen=40_000,
                step_s=1800,
                bands=(*_BANDS, Band(code="feast", starts="00:00", ends="24:00", days=(Day.HOLIDAY,), unit_fen=1)),
            )
        ),
    }
)
CALENDAR = (("2026-03-02", Day.HOLIDAY), ("2026-03-03", Day.SAT))
ASKED = Asked("day", ("seal",), (Discount("a first order", bp=1_000),))
GOAL_PER_S = 100_000


@dataclass(frozen=True)
class Figure:
    """One line of the result: sessions a second."""

    name: str
    per_s: float


def lengths(count: int, seed: int = 7) -> list[int]:
    """Running times in milliseconds, from a few seconds to twelve hours, the same for one seed."""
    draw = random.Random(seed)
    return [draw.randrange(5_000, 12 * 3_600_000) for _ in range(count)]


def bare(running: list[int]) -> int:
    """The integers of the plain tariff and nothing else."""
    whole = 0
    for ms in running:
        billed = -(-(ms // 1000) // 1800) * 1800
        total = 5_000 + (2 * billed * 40_000 + 3600) // 7200
        net = (2 * total * 10_000 + 10_600) // 21_200
        whole += total + (total - net)
    return whole


def plain_input(ms: int) -> RatingInput:
    """A session of the plain tariff."""
    return RatingInput(PLAIN, UserCategory.SME, BookingMode.SELF_OPERATED, 3_600_000, ms, 0)


def full_input(ms: int) -> RatingInput:
    """A session of the tariff with everything."""
    times = Times(NINE_MS, (Piece(NINE_MS, NINE_MS + ms, ms),))
    return RatingInput(FULL, UserCategory.SME, BookingMode.SELF_OPERATED, ms, ms, 0, times, ASKED)


def festive_input(ms: int) -> RatingInput:
    """A session of the tariff that follows the public calendar, over a holiday and a day that is like another."""
    times = Times(NINE_MS, (Piece(NINE_MS, NINE_MS + ms, ms),), CALENDAR)
    return RatingInput(FESTIVE, UserCategory.SME, BookingMode.SELF_OPERATED, ms, ms, 0, times, ASKED)


def rate_all(inputs: list[RatingInput]) -> int:
    """Rate inputs that are at hand."""
    return sum(rate(given).total_fen for given in inputs)


def per_second(count: int, work: Callable[[], object], times: int = 3) -> float:
    """Return the best of some runs, in sessions a second of processor time."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return count / best


def measure(count: int) -> list[Figure]:
    """Return all figures, the bare loop first."""
    running = lengths(count)
    plain, full = [plain_input(ms) for ms in running], [full_input(ms) for ms in running[: count // 10]]
    festive = [festive_input(ms) for ms in running[: count // 10]]
    return [
        Figure("bare integer loop", per_second(count, lambda: bare(running))),
        Figure("rate(), plain tariff", per_second(count, lambda: rate_all(plain))),
        Figure("input and rate()", per_second(count, lambda: rate_all([plain_input(ms) for ms in running]))),
        Figure("rate(), calculation 1", per_second(count, lambda: [rate(given, "1") for given in plain])),
        Figure("rate(), everything", per_second(len(full), lambda: rate_all(full))),
        Figure("rate(), public calendar", per_second(len(festive), lambda: rate_all(festive))),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=200_000)
    figures = measure(parser.parse_args().sessions)
    for figure in figures:
        print(f"{figure.name:24} {figure.per_s:>12,.0f} /s  {figures[0].per_s / figure.per_s:>6.1f} x the bare loop")
    reached = figures[1].per_s >= GOAL_PER_S
    print(f"goal: {GOAL_PER_S:,} /s a core on a plain tariff: {'reached' if reached else 'MISSED'}")


if __name__ == "__main__":
    main()
