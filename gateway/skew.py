"""How far an agent's wall clock is off, judged from when its records arrive. Pure; fed by the usage pipe, read by
watch.

A record is late by the clock's error plus however long it waited. Waiting varies and a wrong clock does not, so only
lateness that stays alike over some records is taken for the clock: an agent that drains a backlog says nothing here.
"""

from collections import deque
from collections.abc import Iterable

from wire.messages import timestamp_ms

ALIKE_MS = 5_000
SEEN = 3


class Skews:
    """The lateness of the newest records of each agent. Fed and read by different threads; each call is short."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[int, str]]] = {}

    def note(self, agent: str, received_ms: int, label: str) -> None:
        """Take a record's time of receipt and the wire timestamp it carries."""
        self._seen.setdefault(agent, deque(maxlen=SEEN)).append((received_ms, label))

    def known(self) -> dict[str, int]:
        """Return the skew of every agent whose last records agree, in milliseconds; positive: its clock is behind."""
        found = {
            agent: _agreed([received_ms - timestamp_ms(label) for received_ms, label in tuple(seen)])
            for agent, seen in list(self._seen.items())
        }
        return {agent: skew for agent, skew in found.items() if skew is not None}


def _agreed(late: Iterable[int]) -> int | None:
    ordered = sorted(late)
    if len(ordered) < SEEN or ordered[-1] - ordered[0] > ALIKE_MS:
        return None
    return ordered[len(ordered) // 2]
