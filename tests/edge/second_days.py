"""Invented days of instruments that the recorded traces lack: power curve and labels from a seed.

Two seeds are two days of one instrument: other times, other lengths, other noise. Seconds and watts.
"""

import random
from collections.abc import Callable, Iterator

from tests.support.scoring import Sample

Labels = list[tuple[float, float, str]]
Day = tuple[list[Sample], Labels]
Phase = tuple[str, float, Callable[[float], float]]
"""What a person would call it, how long it lasts, and the power at each second of it."""


def day_of(kind: str, seed: int, period_s: float = 1.0) -> Day:
    """Return one day of an instrument of this `kind`, sampled every `period_s` with some jitter."""
    dice = random.Random(f"{kind}/{seed}")
    samples: list[Sample] = []
    labels: Labels = []
    start = at = 20_000.0
    for state, seconds, power in KINDS[kind](dice):
        end = start + round(seconds)
        while at < end:
            watts = power(at - start)
            samples.append((round(at, 1), max(0.0, round(watts + dice.gauss(0, 0.01 * watts + 0.2), 1))))
            at += period_s + dice.choice((0, 0, 0, 0, 0.2, -0.2))
        if labels and labels[-1][2] == state:
            labels[-1] = (labels[-1][0], end, state)
        else:
            labels.append((start, end, state))
        start = end
    # A person labels what the samples show: an edge lies at the first sample of the new state.
    times = [t for t, _ in samples]
    moved = [(next((t for t in times if t >= a), b), b, state) for a, b, state in labels]
    return samples, [(a, moved[n + 1][0] if n + 1 < len(moved) else b, state) for n, (a, b, state) in enumerate(moved)]


def _flat(watts: float) -> Callable[[float], float]:
    return lambda _: watts


def _dipping(watts: float) -> Callable[[float], float]:
    return lambda t: 62 if 300 < t % 600 < 312 else watts


def _beating(beat_s: float) -> Callable[[float], float]:
    return lambda t: 1900 if t % beat_s < 20 else 16


def _spinning(long_s: float) -> Callable[[float], float]:
    return lambda t: 80 + 500 * min(1.0, t / 30) if t < long_s - 20 else 70


def _microwave(dice: random.Random) -> Iterator[Phase]:
    yield "standby", 1500, _flat(2.5)
    for _ in range(4):
        yield "running", dice.uniform(40, 180), lambda t: 60 if t < 2 else 1320
        yield "standby", dice.uniform(300, 1500), _flat(2.5)


def _pump(dice: random.Random) -> Iterator[Phase]:
    """A small pump that runs for minutes, hours apart."""
    for _ in range(3):
        yield "standby", dice.uniform(1500, 3000), _flat(3)
        yield "running", dice.uniform(120, 400), lambda t: 38 + 20 * min(1.0, t / 20)
    yield "standby", 1500, _flat(3)


def _computer(dice: random.Random) -> Iterator[Phase]:
    """Idle at 48 W with load bursts that nobody calls use, and calculations that are use."""
    yield "off", 900, _flat(1.5)
    for _ in range(3):
        for _ in range(8):
            yield "standby", dice.uniform(60, 250), lambda t: 48 + 2 * (t % 7 < 2)
            yield "standby", dice.uniform(4, 33), _flat(dice.uniform(68, 95))
        yield "standby", 120, _flat(48)
        level = dice.uniform(96, 104)
        yield "running", dice.uniform(900, 3000), _dipping(level)
    yield "standby", 900, _flat(48)


def _monitor(dice: random.Random) -> Iterator[Phase]:
    yield "standby", 800, _flat(0.8)
    for _ in range(4):
        yield "running", dice.uniform(300, 4000), _flat(dice.uniform(22, 30))
        yield "standby", dice.uniform(300, 900), _flat(0.8)


def _oven(dice: random.Random) -> Iterator[Phase]:
    """A thermostat: 20 s of heat, 45 s of pause, above a controller of 9 W; and a standby with a fan at 14 W."""
    yield "off", 600, _flat(1)
    yield "standby", 700, _flat(9)
    for _ in range(2):
        beat = dice.uniform(60, 70)
        yield "running", 10 * beat + 20, _beating(beat)
        yield "standby", dice.uniform(180, 400), _flat(14)
        yield "standby", dice.uniform(500, 900), _flat(9)


def _centrifuge(dice: random.Random) -> Iterator[Phase]:
    """Spins up, holds, brakes; its lid lamp and cooling make the idle level wander between 30 and 44 W."""
    yield "standby", 1200, lambda t: 30 + 14 * (t % 400 < 150)
    for _ in range(3):
        long = dice.uniform(300, 1200)
        yield "running", long, _spinning(long)
        yield "standby", dice.uniform(700, 1500), lambda t: 30 + 14 * (t % 400 < 150)


def _printer(dice: random.Random) -> Iterator[Phase]:
    """A job is bursts of a sample or two, up to a minute apart; ready 16 W, asleep 11 W."""
    yield "standby", 1500, _flat(11)
    for _ in range(4):
        yield "standby", 20, _flat(15.5)
        yield "running", dice.uniform(15, 30), _flat(700)
        for _ in range(dice.randint(3, 9)):
            yield "running", dice.uniform(15, 58), _flat(16.5)
            yield "running", dice.uniform(4.6, 8), _flat(dice.uniform(250, 800))
        yield "standby", dice.uniform(600, 900), _flat(16)
        yield "standby", dice.uniform(600, 1200), _flat(11)


def _heater(dice: random.Random) -> Iterator[Phase]:
    """Keeps itself warm all day (8 to 12 s of 1.4 kW every two minutes), and brews for minutes in between."""
    for _ in range(3):
        yield "standby", dice.uniform(1200, 2400), lambda t: 1400 if t % 115 > 104 else 20
        yield "standby", 40, _flat(20)
        yield "running", dice.uniform(150, 400), lambda t: 1100 if t % 30 < 24 else 60
        yield "standby", 60, _flat(20)
    yield "standby", 1200, lambda t: 1400 if t % 115 > 104 else 20


def _narrow(dice: random.Random) -> Iterator[Phase]:
    """A chamber whose idle fan takes two thirds of what it takes when it works."""
    yield "standby", 1200, _flat(100)
    for _ in range(3):
        yield "running", dice.uniform(600, 2000), _flat(dice.uniform(136, 142))
        yield "standby", dice.uniform(600, 1200), _flat(dice.uniform(98, 101))


KINDS: dict[str, Callable[[random.Random], Iterator[Phase]]] = {
    "microwave": _microwave,
    "pump": _pump,
    "computer": _computer,
    "monitor": _monitor,
    "oven": _oven,
    "centrifuge": _centrifuge,
    "printer": _printer,
    "heater": _heater,
    "narrow": _narrow,
}
