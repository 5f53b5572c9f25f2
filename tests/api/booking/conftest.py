"""Fixtures of the booking tests: the small county on each engine, and on SQLite alone."""

import pytest

from store.database import Database
from tests.support.builders_booking import Office, open_office
from wire.clock import ManualClock


@pytest.fixture
def office(database: Database, clock: ManualClock) -> Office:
    """Host, instruments, prices, two firms: on each engine in turn."""
    return open_office(database, clock)


@pytest.fixture
def sqlite_office(sqlite_database: Database, clock: ManualClock) -> Office:
    """The same on SQLite, for what does not depend on the engine."""
    return open_office(sqlite_database, clock)
