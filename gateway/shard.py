"""Which agents one of several gateways works for, where the broker cannot share a subscription (NATS).

Each gateway hears everything on a session of its own and takes the agents of its shard; the rest it acknowledges to
the broker at once, because the gateway whose agents they are has its own copy. The hash is stable: the same agent is
in the same shard on every machine and after every restart. Used by bridge and settings. Pure.
"""

from dataclasses import dataclass
from hashlib import sha256


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `of`. Raises ValueError for a number outside 1..of."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"there is no shard {self.number}/{self.of}; give 1/3, 2/3 or 3/3 for three gateways")

    @staticmethod
    def parse(text: str) -> "Shard":
        """Read `1/3`. Raises ValueError with the form that is expected."""
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal()):
            raise ValueError(f"{text!r} is not a shard; write 1/3 for the first of three gateways")
        return Shard(int(number), int(of))

    def owns(self, agent: str) -> bool:
        """Whether this gateway works for an agent. Every agent belongs to exactly one shard of `of`."""
        digest = sha256(agent.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def owns_topic(self, topic: str) -> bool:
        """Whether a message under this topic is ours. What is below no agent is everybody's, so that it is parked."""
        levels = topic.split("/", 4)
        return len(levels) < 5 or levels[2] != "up" or self.owns(levels[3])
