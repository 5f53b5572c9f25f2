"""Every table of the ledger database, one file a domain. Importing this package fills `Base.metadata`."""

from store.database import Base
from store.tables import (
    accounts,
    audit,
    booking_rules,
    calendar,
    cards,
    charging,
    disputes,
    notices,
    registry,
    reward_steps,
    rewards,
    usage,
)

metadata = Base.metadata

__all__ = [
    "accounts",
    "audit",
    "booking_rules",
    "calendar",
    "cards",
    "charging",
    "disputes",
    "metadata",
    "notices",
    "registry",
    "reward_steps",
    "rewards",
    "usage",
]
