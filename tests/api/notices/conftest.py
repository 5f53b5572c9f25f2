"""Fixtures of the tests of notices: the small county, whose people have addresses."""

from collections.abc import Iterator

import pytest
from sqlalchemy import update

from api.deps import Parts
from store.database import Database
from store.series import SeriesStore
from store.tables.accounts import Person
from tests.support.api_client import ApiClient, in_process, test_parts
from tests.support.builders_booking import GRANTS, Office, open_office
from wire.clock import ManualClock


def staffed(database: Database, clock: ManualClock) -> Office:
    """The county with addresses and one English reader (p-m)."""
    office = open_office(database, clock)
    with database.write() as session:
        for person_id, _, _ in GRANTS:
            values = {"email": f"{person_id}@firm.test", "language": "en" if person_id == "p-m" else "zh"}
            session.execute(update(Person).where(Person.person_id == person_id).values(**values))
    return office


@pytest.fixture
def office(database: Database, clock: ManualClock) -> Office:
    """On each engine in turn."""
    return staffed(database, clock)


@pytest.fixture
def sqlite_office(sqlite_database: Database, clock: ManualClock) -> Office:
    """On SQLite, for what does not depend on the engine."""
    return staffed(sqlite_database, clock)


@pytest.fixture
def sqlite_office_parts(sqlite_office: Office, api_series: SeriesStore, clock: ManualClock) -> Parts:
    """The parts of an API over the same county."""
    return test_parts(sqlite_office.database, api_series, clock)


@pytest.fixture
def http(sqlite_office_parts: Parts) -> Iterator[ApiClient]:
    """A client of that API that is not signed in."""
    with in_process(sqlite_office_parts) as anonymous:
        yield anonymous
