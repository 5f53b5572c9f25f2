"""Every table of the ledger database, one file a domain. Importing this package fills `Base.metadata`."""

from store.database import Base
from store.tables import accounts, audit, calendar, charging, disputes, registry, rewards, usage

metadata = Base.metadata

__all__ = ["accounts", "audit", "calendar", "charging", "disputes", "metadata", "registry", "rewards", "usage"]
