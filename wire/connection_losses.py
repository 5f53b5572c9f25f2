"""Tells a name that two processes fight for from a bad line. Pure; used by agents and gateways.

Times are the machine's own (`time.monotonic`).
"""

from dataclasses import dataclass

LOSSES = 3
LOST_SOON_S = 10.0


@dataclass
class ConnectionLosses:
    """Tells a client id that two processes fight for from a bad line.

    Each of the two throws the other out as soon as it connects, and would do so for ever. A connection that is lost
    within `LOST_SOON_S` while the broker is there all the time counts; `LOSSES` of them in a row and it is better to
    stay away for a while. A broker that cannot be reached in between explains the loss.
    """

    connected_at: float | None = None
    in_a_row: int = 0

    def connected(self, now: float) -> None:
        """A connection was made."""
        self.connected_at = now

    def unreachable(self) -> None:
        """The broker did not answer: what was lost before was not taken by somebody else."""
        self.in_a_row = 0

    def lost(self, now: float) -> bool:
        """A connection was lost; whether it is time to stay away."""
        began, self.connected_at = self.connected_at, None
        if began is None:
            return False
        self.in_a_row = self.in_a_row + 1 if now - began < LOST_SOON_S else 0
        if self.in_a_row < LOSSES:
            return False
        self.in_a_row = 0
        return True
