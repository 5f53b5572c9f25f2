"""Fixtures of the API tests: the application over a fresh database of each engine, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.deps import Parts
from store.database import Database
from store.series import SeriesStore
from tests.support.api_client import ApiClient, in_process, open_test_series, test_parts
from tests.support.county import MONDAY_NINE_MS
from wire.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """The demo clock of the test; stands still until the test moves it."""
    return ManualClock(MONDAY_NINE_MS)


@pytest.fixture
def api_series(tmp_path: Path) -> Iterator[SeriesStore]:
    """An empty time-series store."""
    store = open_test_series(tmp_path)
    yield store
    store.close()


@pytest.fixture
def parts(database: Database, api_series: SeriesStore, clock: ManualClock) -> Parts:
    """The parts of an API, on each engine in turn."""
    return test_parts(database, api_series, clock)


@pytest.fixture
def sqlite_parts(sqlite_database: Database, api_series: SeriesStore, clock: ManualClock) -> Parts:
    """The parts of an API on SQLite, for what does not depend on the engine."""
    return test_parts(sqlite_database, api_series, clock)


@pytest.fixture
def client(parts: Parts) -> Iterator[ApiClient]:
    """A client that is not signed in, on each engine in turn; `client.signed_in(...)` makes others."""
    with in_process(parts) as anonymous:
        yield anonymous


@pytest.fixture
def sqlite_client(sqlite_parts: Parts) -> Iterator[ApiClient]:
    """A client that is not signed in, on SQLite."""
    with in_process(sqlite_parts) as anonymous:
        yield anonymous
