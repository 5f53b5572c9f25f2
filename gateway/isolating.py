"""Work in a batch; where its data is at fault, work in its messages one by one and set aside the one that is.

Used by both pipes. What is the environment's fault (a database or series that is away, a lost race) is raised, so
that the batch waits; a message that can never be kept must not hold up everybody else's.
"""

from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store.errors import StoreError, TryAgain
from store.series import SeriesUnavailable
from wire.client import Delivery

log = structlog.get_logger(__name__)
_ENVIRONMENT = (OperationalError, InterfaceError, PoolTimeout, TryAgain, SeriesUnavailable, OSError)
_DATA = (DBAPIError, StoreError, ValueError, LookupError, OverflowError)

TakeIn = Callable[[Sequence[Delivery], str | None], None]
"""Takes a batch in, in one transaction. With a sentence, sets its messages aside for that reason instead."""


def one_by_one_where_needed(batch: Sequence[Delivery], take_in: TakeIn) -> None:
    """Take a batch in. Raises for what may work later; then nothing of what was not acknowledged was kept."""
    try:
        take_in(batch, None)
    except _ENVIRONMENT:
        raise
    except _DATA as error:
        if len(batch) > 1:
            for delivery in batch:
                one_by_one_where_needed([delivery], take_in)
            return
        log.error("a message cannot be stored and is set aside", topic=batch[0].topic, error=repr(error))
        take_in(batch, f"it cannot be stored: {error}"[:500])
