"""What the store refuses. Each error holds the facts; services turn them into sentences for people."""


class StoreError(Exception):
    """Base of the errors of this package."""


class CalendarOverlap(StoreError):
    """The database refused a calendar row: the instrument is taken at that time."""


class AlreadyThere(StoreError):
    """A unique key decided that this fact has been recorded before."""


class StillReferenced(StoreError):
    """A foreign key refused the change: something else is built on that row, or names a row that is not there."""


class AppendOnly(StoreError):
    """Somebody tried to edit or delete a row of an append-only table."""


class OutOfOrder(StoreError):
    """Somebody tried to record a step before what has to come first, or after what ends it."""


class TryAgain(StoreError):
    """The database was busy (lock timeout, deadlock, serialisation): the same transaction may succeed now."""


class SchemaOutdated(StoreError):
    """The database has not been migrated to the version this program needs."""
