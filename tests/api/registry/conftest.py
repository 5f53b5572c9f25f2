"""The seeded county for these tests: seeded once a run and engine, and copied for each test."""

from collections.abc import Iterator

import pytest

from store.series import SeriesStore
from tests.support.api_client import ApiClient, in_process, test_parts
from tests.support.county import seed_county
from tests.support.databases import ENGINES, DatabaseServers, opened
from wire.clock import ManualClock


def _county(servers: DatabaseServers, engine: str, series: SeriesStore, clock: ManualClock) -> Iterator[ApiClient]:
    with (
        servers.fresh_url(engine, seed_county) as url,
        opened(url) as database,
        in_process(test_parts(database, series, clock)) as client,
    ):
        yield client


@pytest.fixture(params=ENGINES)
def county(
    request: pytest.FixtureRequest, database_servers: DatabaseServers, api_series: SeriesStore, clock: ManualClock
) -> Iterator[ApiClient]:
    """An API over the seeded county, on each engine in turn."""
    yield from _county(database_servers, request.param, api_series, clock)


@pytest.fixture
def sqlite_county(
    database_servers: DatabaseServers, api_series: SeriesStore, clock: ManualClock
) -> Iterator[ApiClient]:
    """An API over the seeded county, on SQLite."""
    yield from _county(database_servers, "sqlite", api_series, clock)
