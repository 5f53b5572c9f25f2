"""How far an agent's wall clock is off, judged from when its records arrive. Pure; fed by the usage pipe, read by
watch.

A record is late by the clock's error plus however long it waited. Waiting varies and a wrong clock does not, so only
lateness that stays alike over some records is taken for the clock: an agent that drains a backlog says nothing here.
"""

from collections import deque
from collections.abc import Iterable

ALIKE_MS = 5_000
SEEN = 3


class Skews:
    """The lateness of the newest records of each agent. Fed and read by different threads; each call is short."""

    def __init__(self) -> None:
        self._late: dict[str, deque[int]] = {}

    def note(self, agent: str, late_ms: int) -> None:
        """Take a record's lateness: time of receipt less the label it carries; negative where the label is ahead."""
        self._late.setdefault(agent, deque(maxlen=SEEN)).append(late_ms)

    def known(self) -> dict[str, int]:
        """Return the skew of every agent whose last records agree, in milliseconds; positive: its clock is behind."""
        found = {agent: _agreed(tuple(late)) for agent, late in list(self._late.items())}
        return {agent: skew for agent, skew in found.items() if skew is not None}


def _agreed(late: Iterable[int]) -> int | None:
    ordered = sorted(late)
    if len(ordered) < SEEN or ordered[-1] - ordered[0] > ALIKE_MS:
        return None
    return ordered[len(ordered) // 2]
