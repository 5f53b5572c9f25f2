"""What will happen in a simulated year, from a seed alone: who books which instrument when, and how it turns out. Pure.

Orders are spread over the working days of the year and the instruments by their usual session length. Each firm has a
home host and comes in some months, so that a statement has several charges. Instants are UTC milliseconds.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from store.periods import SHANGHAI, month_bounds, next_month
from wire.clock import to_ms

MINUTE_MS = 60_000
LONGEST_MINUTES = 3 * 1440
_OPENS_H, _SHUTS_H = 9, 18
_GAP_MINUTES = 30


class Fate(StrEnum):
    """How an order turns out."""

    USED = "used"
    NO_SHOW = "no_show"
    CANCELLED = "cancelled"


class Quarrel(StrEnum):
    """What a payer's objection leads to."""

    METERED = "metered"
    WAIVER = "waiver"
    WITHDRAWAL = "withdrawal"
    STANDS = "stands"
    TAKEN_BACK = "taken_back"


@dataclass(frozen=True)
class Machine:
    """What the plan has to know of an instrument."""

    instrument_id: str
    host_id: str
    minutes: int
    counts: bool
    """Whether its price is by samples or pieces, so that it may be booked as a sample order."""
    by_power: bool = True
    """Whether power alone proves its use, without a check-in."""


@dataclass(frozen=True)
class Order:
    """One order. `run_ms` is how long the instrument runs from `run_from_ms` on, 0 where nobody comes."""

    number: int
    machine: Machine
    firm: int
    by_samples: bool
    slot_from_ms: int
    slot_to_ms: int
    run_from_ms: int
    run_ms: int
    quantity: int
    fate: Fate
    quarrel: Quarrel | None


@dataclass(frozen=True)
class Plan:
    """A whole year. `outages`: (instrument, month) whose meter is cut off from the last working day of the month on."""

    year: int
    orders: tuple[Order, ...]
    stray_runs: tuple[tuple[str, int, int], ...]
    """Runs that nobody booked: (instrument, from, length)."""
    outages: frozenset[tuple[str, int]]
    prompt_firms: frozenset[int]
    """Firms that pay at once; of the others some pay in parts and some late."""


def make_plan(seed: int, year: int, orders: int, firms: int, machines: Sequence[Machine]) -> Plan:
    """Return the plan. Raises ValueError where the instruments have no room for so many orders."""
    rng = random.Random(f"openlab-year-{seed}-{year}-{orders}-{firms}")
    slots = [slot for machine in machines for slot in _slots(machine, year)]
    if orders > len(slots):
        raise ValueError(f"{len(machines)} instruments have room for {len(slots)} orders a year, not {orders}")
    chosen = sorted(rng.sample(slots, orders), key=lambda slot: (slot[1], slot[0].instrument_id))
    hosts = sorted({machine.host_id for machine in machines})
    made = tuple(
        _order(rng, number, machine, start, _firm(rng, machine.host_id, start, firms, hosts))
        for number, (machine, start) in enumerate(chosen)
    )
    taken = {(order.machine.instrument_id, order.slot_from_ms) for order in made}
    free = [slot for slot in slots if (slot[0].instrument_id, slot[1]) not in taken and slot[0].minutes <= 120]
    strays = rng.sample(free, min(len(free), orders // 200))
    cut_off = {found for index in range(11) if (found := _cut_off(rng, next_month(year * 100 + 1, index), made))}
    prompt = frozenset(firm for firm in range(firms) if rng.random() < 0.8)
    return Plan(
        year,
        made,
        tuple(sorted((m.instrument_id, start + 5 * MINUTE_MS, 20 * MINUTE_MS) for m, start in strays)),
        frozenset(cut_off),
        prompt,
    )


def working_days(year: int) -> Iterator[datetime]:
    """Yield the midnights (Asia/Shanghai) of Monday to Friday, from the second week of January on."""
    day = datetime(year, 1, 1, tzinfo=SHANGHAI)
    while day.year == year:
        if day.weekday() < 5 and day >= datetime(year, 1, 5, tzinfo=SHANGHAI):
            yield day
        day += timedelta(days=1)


def last_working_day(month: int) -> datetime:
    """Return the midnight (Asia/Shanghai) of the last working day of a month."""
    day = month_bounds(month)[1].astimezone(SHANGHAI) - timedelta(days=1)
    while day.weekday() > 4:
        day -= timedelta(days=1)
    return day


def _slots(machine: Machine, year: int) -> list[tuple[Machine, int]]:
    """Every slot an instrument could be booked for: some a day, or one after the other where a run takes days."""
    minutes = min(machine.minutes, LONGEST_MINUTES)
    found: list[tuple[Machine, int]] = []
    free_from = 0
    for day in working_days(year):
        opens, shuts = to_ms(day + timedelta(hours=_OPENS_H)), to_ms(day + timedelta(hours=_SHUTS_H))
        start = max(opens, free_from)
        while start == opens or start + minutes * MINUTE_MS <= shuts:
            if start >= shuts:
                break
            found.append((machine, start))
            start += (minutes + _GAP_MINUTES) * MINUTE_MS
            free_from = start
    return found


def _firm(rng: random.Random, host_id: str, start_ms: int, firms: int, hosts: Sequence[str]) -> int:
    if rng.random() < 0.1:
        return rng.randrange(firms)
    month = datetime.fromtimestamp(start_ms / 1000, SHANGHAI).month
    at_home = range(hosts.index(host_id), firms, len(hosts))
    visiting = [firm for place, firm in enumerate(at_home) if (place + month) % 5 == 0]
    return rng.choice(visiting or list(at_home) or [rng.randrange(firms)])


def _cut_off(rng: random.Random, month: int, orders: Sequence[Order]) -> tuple[str, int] | None:
    """An instrument that is used on the last working day of a month, and whose records come too late for its close."""
    starts = to_ms(last_working_day(month))
    ends = starts + 86_400_000
    used = [
        order.machine.instrument_id
        for order in orders
        if starts <= order.slot_from_ms and order.slot_to_ms < ends and order.run_ms
        if order.machine.by_power and not order.by_samples
    ]
    return (rng.choice(used), month) if used else None


def _order(rng: random.Random, number: int, machine: Machine, start_ms: int, firm: int) -> Order:
    slot_ms = min(machine.minutes, LONGEST_MINUTES) * MINUTE_MS
    by_samples = machine.counts and rng.random() < 0.3
    luck = rng.random()
    fate = Fate.NO_SHOW if luck < 0.015 else Fate.CANCELLED if luck < 0.03 else Fate.USED
    if by_samples and fate is Fate.NO_SHOW:
        fate = Fate.USED
    # Full seconds would be kind to rounding; a meter is not.
    begins = rng.randrange(0, 4 * MINUTE_MS)
    run_ms = slot_ms * rng.randrange(60, 101) // 100 - begins - rng.randrange(0, MINUTE_MS)
    quarrel = rng.choice(list(Quarrel)) if fate is Fate.USED and rng.random() < 0.006 else None
    return Order(
        number,
        machine,
        firm,
        by_samples,
        start_ms,
        start_ms + slot_ms,
        start_ms + begins,
        max(run_ms, MINUTE_MS) if fate is Fate.USED else 0,
        rng.randrange(1, 9) if machine.counts else 0,
        fate,
        quarrel,
    )
