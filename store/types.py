"""Column types that behave alike on every database: instants, and the enums' text."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Dialect, Row
from sqlalchemy.types import TypeDecorator

from wire.clock import from_ms, to_ms

AnyRow = Row[*tuple[Any, ...]]
"""A row of columns, not of a class."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, stored as BIGINT milliseconds since 1970 UTC.

    Takes and returns aware datetimes; a naive one is refused (SQLite would lose the zone and shift by 8 hours).
    Microseconds below a millisecond are cut off, so a value read back equals what was stored.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_ms(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_ms(value)
