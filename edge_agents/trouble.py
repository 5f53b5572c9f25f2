"""What an agent tells the county about its own connection: the troubles that deserve a fault record. Pure.

Used by the sender, which sees them, and the agent, which writes them down. Times are the machine's own.
"""

from dataclasses import dataclass, field

from edge_agents.records import Detail

REST_S = 300.0


@dataclass(frozen=True)
class Trouble:
    """One fault record in the making. `reason` is a stable code: not_accepted, connection_taken, broker_refused,
    ack_beyond_last."""

    reason: str
    detail: Detail = field(default_factory=dict)
